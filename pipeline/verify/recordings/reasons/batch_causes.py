"""Likely causes of batches that differ."""

from collections.abc import Sequence

import numpy as np

from pipeline.verify.recordings.fields import FieldPair
from pipeline.verify.recordings.steps import StepPair
from pipeline.verify.trace.fingerprints import fingerprint
from pipeline.verify.verdict import Cause, Part

MOST_CHANNELS = 64


def order_of_samples(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """The same samples in another order."""
    for one in _fields(pair, names):
        rows = [sorted(map(_key, side)) for side in (one.left, one.right) if side.ndim]
        if rows and len(rows[0]) > 1 and rows[0] == rows[1]:
            remedy = (
                f"The batches have the same {len(one.left)} samples in another order: give both loops "
                "one order, without shuffling or from one permutation."
            )
            return Cause("order of samples", remedy, True)
    return None


def normalisation(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """The same numbers after another scale and shift, overall or by channel."""
    for one in _fields(pair, names):
        for axis in (None, *range(1, one.left.ndim)):
            if fits := _lines(one, axis):
                where = "" if axis is None else " by channel"
                shown = "; ".join(f"{slope:.4g} · left {offset:+.4g}" for slope, offset in fits[:4])
                remedy = (
                    f"The right {one.right_name} is normalised otherwise{where}: right = {shown}."
                )
                return Cause("normalisation", remedy, True)
    return None


def _lines(one: FieldPair, axis: int | None) -> list[tuple[float, float]]:
    """Return slopes and offsets from left to right, of all values or of each channel; none: no lines."""
    count = 1 if axis is None else one.left.shape[axis]
    sides = (
        np.moveaxis(side, axis or 0, 0) if side.ndim else side for side in (one.left, one.right)
    )
    rows = [side.reshape(count, -1) for side in sides]
    found = []
    for ours, theirs in zip(*rows, strict=True):
        if len(ours) < 4 or not np.ptp(ours) or not np.ptp(theirs) or count > MOST_CHANNELS:
            return []
        slope, offset = np.polyfit(ours, theirs, 1)
        if np.abs(slope * ours + offset - theirs).max() > 1e-4 * np.ptp(theirs):
            return []
        found.append((float(slope), float(offset)))
    return found


def _key(row: np.ndarray) -> tuple[float, ...]:
    """Return what tells a sample from others."""
    return tuple(float(f"{value:.5g}") for value in fingerprint(row))


def _fields(pair: StepPair, names: Sequence[str]) -> list[FieldPair]:
    fields = (one for one in pair.fields[Part.batch] if one.left_name in names)
    return [one for one in fields if one.is_comparable and one.left.shape == one.right.shape]


BATCH_CAUSES = (order_of_samples, normalisation)
