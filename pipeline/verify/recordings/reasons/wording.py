"""Sentences about two recordings."""

from collections.abc import Iterable, Sequence

from pipeline.verify.recordings.fields import FieldPair
from pipeline.verify.recordings.pairing import FIELDS, Pairing
from pipeline.verify.verdict import SIDES, Part

WORDS = {
    Part.weights: "weights",
    Part.batch: "batch",
    Part.training: "outputs",
    Part.loss: "loss",
    Part.buffers: "running statistics",
    Part.gradient: "gradients",
    Part.update: "weights after the step",
}
UNKNOWN = "without gradients in the recordings this cannot be told from rounding: give log.step gradients="
HINTS = {
    Part.training: ": a layer differs, or draws random numbers; verify the two models to find it"
}


def reason(part: Part, agreed: Iterable[Part], fields: Iterable[FieldPair] = ()) -> str:
    """Return which parts of a step are the same, and that one is not."""
    words = [WORDS[one] for one in Part if one in set(agreed) and one is not part]
    *first, last = words or ["weights"]
    same = f"{', '.join(first)} and {last}" if first else last
    for one in fields:
        if not one.is_comparable:
            shapes = f"{list(one.left.shape)} (left), {list(one.right.shape)} (right)"
            return f"{same} are the same; the {WORDS[part]} have other shapes: {shapes}"
    verb = "is" if same in ("batch", "loss") else "are"
    other = "is" if part in (Part.batch, Part.loss) else "are"
    return f"{same} {verb} the same, the {WORDS[part]} {other} not{HINTS.get(part, '')}"


def listed(names: Sequence[str]) -> str:
    """Return the first names of some, in one phrase."""
    return ", ".join([*names[:3], "…"] if len(names) > 3 else names)


def notes_on_files(pairing: Pairing) -> list[str]:
    """Say what ended early, and what is not in both recordings."""
    notes = []
    recordings = dict(zip(SIDES, (pairing.left, pairing.right), strict=True))
    for side, recording in recordings.items():
        if recording.error:
            notes.append(f"{side}: the script ended with {recording.error}")
        if more := len(recording.numbers) - len(pairing.numbers):
            notes.append(f"{side} alone has {more} more step{'s' * (more > 1)}: not compared")
    for part in ("batch", "outputs", "loss", "gradients"):
        absent = [side for side, recording in recordings.items() if not recording.has(part)]
        if absent:
            notes.append(
                f"{part}: not compared, since not recorded on the {' and the '.join(absent)}"
            )
    return notes


def notes_on_fields(pairing: Pairing) -> list[str]:
    """Say which arrays of a batch, of outputs or of a loss one side alone has."""
    return [
        f"{side} alone has in its {FIELDS[part]}: {', '.join(names)}: not compared"
        for part, fields in pairing.fields.items()
        for side, names in fields.alone.items()
        if names
    ]
