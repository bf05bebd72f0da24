"""Pictures that runs have logged, side by side."""

from base64 import b64encode

from pipeline.compare.comparison import Comparison
from pipeline.loggers.media_files import latest_pictures

ROOM = 3_000_000  # characters of the page for the pictures of all runs; further ones are left out


def pictures(made: Comparison) -> list[dict[str, object]]:
    """Return the last pictures of each key, run by run, as far as `ROOM` allows.

    `same` tells that two runs or more have logged one picture, and all the same bytes.
    """
    found: dict[str, list[dict[str, object]]] = {}
    left_out: dict[str, int] = {}
    room = ROOM
    for position, record in enumerate(made.records):
        for key, (step, path) in latest_pictures(record.folder).items():
            image = f"data:image/png;base64,{b64encode(path.read_bytes()).decode()}"
            room -= len(image)
            if room > 0:
                found.setdefault(key, []).append({"run": position, "step": step, "image": image})
            else:
                left_out[key] = left_out.get(key, 0) + 1
    return [
        {
            "key": key,
            "runs": runs,
            "same": len(runs) > 1 and len({run["image"] for run in runs}) == 1,
            "left_out": left_out.get(key, 0),
        }
        for key, runs in sorted(found.items())
    ]
