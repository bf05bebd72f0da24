"""Likely causes of a difference between two recorded steps."""

from collections.abc import Callable, Sequence

from pipeline.verify.recordings.reasons.batch_causes import BATCH_CAUSES
from pipeline.verify.recordings.reasons.gradient_causes import GRADIENT_CAUSES
from pipeline.verify.recordings.reasons.output_causes import (
    BUFFER_CAUSES,
    LOSS_CAUSES,
    OUTPUT_CAUSES,
    penalty,
)
from pipeline.verify.recordings.reasons.update_causes import UPDATE_CAUSES
from pipeline.verify.recordings.steps import StepPair
from pipeline.verify.verdict import Cause, Part

CAUSES: dict[Part, tuple[Callable[[StepPair, Sequence[str]], Cause | None], ...]] = {
    Part.batch: BATCH_CAUSES,
    Part.training: OUTPUT_CAUSES,
    Part.loss: LOSS_CAUSES,
    Part.buffers: BUFFER_CAUSES,
    Part.gradient: (*GRADIENT_CAUSES, penalty),
    Part.update: UPDATE_CAUSES,
}


def find_cause(part: Part, pair: StepPair, names: Sequence[str]) -> Cause | None:
    """Return the first cause that explains the differences of the named arrays, or None."""
    return next((cause for find in CAUSES[part] if (cause := find(pair, names))), None)
