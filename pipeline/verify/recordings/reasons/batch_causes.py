"""Likely causes of batches that differ."""

from collections.abc import Sequence

import numpy as np

from pipeline.verify.recordings.fields import FieldPair
from pipeline.verify.recordings.steps import StepPair
from pipeline.verify.trace.fingerprints import fingerprint
from pipeline.verify.verdict import Cause


def order_of_samples(pair: StepPair, names: Sequence[str]) -> Cause | None:
    """The same samples in another order."""
    for one in _fields(pair, names):
        if one.left.ndim and len(one.left) == len(one.right) > 1:
            rows = [sorted(map(_key, side)) for side in (one.left, one.right)]
            if rows[0] == rows[1]:
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
            if axis is not None and one.left.shape[axis] > 64:
                continue
            fits = _lines(one, axis)
            if fits is None:
                continue
            where = "" if axis is None else " by channel"
            shown = "; ".join(f"{slope:.4g} · left {offset:+.4g}" for slope, offset in fits[:4])
            remedy = f"The right {one.right_name} is normalised otherwise{where}: right = {shown}."
            return Cause("normalisation", remedy, True)
    return None


def _lines(one: FieldPair, axis: int | None) -> list[tuple[float, float]] | None:
    """Return slopes and offsets from left to right, of all values or of each channel, or None."""
    sides = (
        [one.left, one.right]
        if axis is None
        else [np.moveaxis(s, axis, 0) for s in (one.left, one.right)]
    )
    rows = [side.reshape(1 if axis is None else len(side), -1) for side in sides]
    found = []
    for ours, theirs in zip(*rows, strict=True):
        if len(ours) < 4 or np.ptp(ours) == 0 or np.ptp(theirs) == 0:
            return None
        slope, offset = np.polyfit(ours, theirs, 1)
        if np.abs(slope * ours + offset - theirs).max() > 1e-4 * np.ptp(theirs):
            return None
        found.append((float(slope), float(offset)))
    return found


def _key(row: np.ndarray) -> tuple[float, ...]:
    """Return what tells a sample from others."""
    return tuple(float(f"{value:.5g}") for value in fingerprint(row))


def _fields(pair: StepPair, names: Sequence[str]) -> list[FieldPair]:
    fields = (one for one in pair.batch if one.left_name in names and one.is_comparable)
    return [one for one in fields if one.left.shape == one.right.shape]


BATCH_CAUSES = (order_of_samples, normalisation)
