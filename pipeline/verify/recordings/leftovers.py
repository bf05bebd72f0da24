"""Weights of a recording without a counterpart in the other one."""

import numpy as np

from pipeline.verify.alignment.names import similarity
from pipeline.verify.recordings.pairing import Pairing
from pipeline.verify.recordings.reasons.wording import SIDES
from pipeline.verify.verdict import Leftover


def find_leftovers(
    pairing: Pairing, notes: list[str]
) -> tuple[dict[str, list[Leftover]], dict[str, list[str]]]:
    """Return the weights without a counterpart, and the names of those that change; note the others."""
    matching = pairing.matching
    found: dict[str, list[Leftover]] = {}
    needed: dict[str, list[str]] = {}
    for side, recording, other in zip(
        SIDES, (pairing.left, pairing.right), SIDES[::-1], strict=True
    ):
        start = recording.start()
        last = recording.step(recording.numbers[-1]).weights if recording.numbers else start
        free, candidates = matching.unmatched[side], matching.unmatched[other]
        needed[side] = [name for name in free if not np.array_equal(start[name], last[name])]
        found[side] = []
        for name in free:
            near = max(((similarity(name, one), one) for one in candidates), default=(0.0, ""))
            is_used = name in needed[side]
            found[side].append(Leftover(name, start[name].shape, near[1], is_used))
        if idle := [name for name in free if name not in needed[side]]:
            notes.append(f"{side}: left out, since it never changes: {', '.join(idle)}")
        if copies := matching.copies[side]:
            notes.append(f"{side}: the same weights by another name: {', '.join(copies)}")
    return found, needed
