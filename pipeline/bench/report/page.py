"""Files of a benchmark: the page, in the style of the report, and the numbers as JSON."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pipeline.atomic_files import write_json, write_text
from pipeline.bench.report.fairness import unfairness, used_head, used_rows
from pipeline.bench.report.layers import layers_head, layers_rows
from pipeline.bench.report.sentence import sentences
from pipeline.bench.report.table import GROWTH, growth_rows, speed_head, speed_rows
from pipeline.bench.results import INFER, Bench, Measured
from pipeline.bench.statistics import Interval
from pipeline.compare.report.page import assembled, read_part
from pipeline.compare.report.page_data import Json, short_number

FOLDER = Path(__file__).parent


def write(bench: Bench, folder: Path) -> list[Path]:
    """Write `bench.html` and `bench.json` into a folder and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    shown, numbers = folder / "bench.html", folder / "bench.json"
    write_text(shown, page(bench))
    write_json(
        numbers, bench.to_json() | {"sentences": sentences(bench), "unlike": unfairness(bench)}
    )
    return [shown, numbers]


def page(bench: Bench) -> str:
    """Return the page as text."""
    scripts = [read_part("core.js"), read_part("plots.js")]
    own = [(FOLDER / name).read_text(encoding="utf-8") for name in ("bench.html", "bench.js")]
    return assembled(own[0], [*scripts, own[1]], page_data(bench))


def page_data(bench: Bench) -> Json:
    """Return all data of the page."""
    series = [
        {"backend": backend, "precision": precision, "colour": colour} | columns(measured)
        for precision in bench.precisions
        for colour, backend in enumerate(bench.backends)
        if (measured := bench.series(precision, backend))
    ]
    devices = dict.fromkeys(one.device for one in bench.measured if one.device)
    machine = ", ".join(f"{key} {value}" for key, value in bench.hardware.items())
    return {
        "title": bench.title,
        "made": datetime.now().astimezone().isoformat(timespec="seconds"),
        "sentences": sentences(bench),
        "unlike": unfairness(bench),
        "notes": list(bench.notes),
        "backends": list(bench.backends),
        "precisions": list(bench.precisions),
        "series": series,
        "measurements": {"head": speed_head(bench), "rows": speed_rows(bench)},
        "growth": {"head": list(GROWTH), "rows": growth_rows(bench)},
        "used": {"head": used_head(bench), "rows": used_rows(bench)},
        "layers": {"head": layers_head(bench), "rows": layers_rows(bench)},
        "facts": [*devices, machine],
    }


def columns(measured: Sequence[Measured]) -> Json:
    """Return the measurements of a backend as lists over its batch sizes."""

    def ends(intervals: Sequence[Interval | None], scale: float = 1.0) -> list[list]:
        return [
            [short_number(scale * end) for end in (found.median, found.low, found.high)]
            if found
            else [None] * 3
            for found in intervals
        ]

    return {
        "batch": [one.batch for one in measured],
        "throughput": ends([one.throughput for one in measured]),
        "latency": ends([one.interval(INFER) for one in measured], 1000),
        "memory": [short_number(one.memory_mb) for one in measured],
        "compile": [short_number(one.compile_seconds) for one in measured],
        "first": [short_number(one.first_seconds) for one in measured],
    }
