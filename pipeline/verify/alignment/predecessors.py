"""Matrices that factors and summands follow: all that tells apart the norms behind two branches."""

from collections.abc import Iterable, Sequence

from pipeline.verify.alignment.layers import MATRICES, Layer
from pipeline.verify.alignment.match import Match
from pipeline.verify.trace.graph import Op, Trace

SEVERAL = -1  # more than one matrix, or none


def match_by_predecessor(
    matches: Sequence[Match], open_matches: Sequence[Match], traces: tuple[Trace, Trace]
) -> tuple[list[Match], list[list[Layer]]]:
    """Return the open matches whose layers follow other matrices on either side, and their right layers.

    The second value gives the left layers that each of them should have; both are empty if the layers that
    are matched wrongly cannot be exchanged for each other.
    """
    sides = [[layer for match in matches for layer in side(match)] for side in (_left, _right)]
    behind = [_predecessors(trace.ops, side) for trace, side in zip(traces, sides, strict=True)]
    partners = {
        match.right[0].op: match.left[0].op
        for match in matches
        if match.left[0].role in MATRICES and len(match.left) == len(match.right) == 1
    }
    wrong: list[Match] = []
    for match in open_matches:
        if match.left[0].role in MATRICES or len(match.left) > 1 or len(match.right) > 1:
            continue
        ours, theirs = behind[0][match.left[0].op], behind[1][match.right[0].op]
        if ours != SEVERAL and partners.get(theirs, ours) != ours:
            wrong.append(match)
    found, free = [], [match.left for match in wrong]
    for match in wrong:
        expected = partners[behind[1][match.right[0].op]]
        fitting = (
            left
            for left in free
            if behind[0][left[0].op] == expected and _key(left[0]) == _key(match.left[0])
        )
        left = next(fitting, None)
        if left is None:
            return [], []
        free = [other for other in free if other is not left]
        found.append(left)
    return wrong, found


def _left(match: Match) -> list[Layer]:
    return match.left


def _right(match: Match) -> list[Layer]:
    return match.right


def _key(layer: Layer) -> tuple[object, ...]:
    return (*layer.signature, layer.shift is None, layer.is_trained)


def _predecessors(ops: Sequence[Op], layers: Iterable[Layer]) -> dict[int, int]:
    """Return the operation of the only matrix that each layer follows directly, by the layer's operation."""
    layers = list(layers)
    matrices = {layer.op for layer in layers if layer.role in MATRICES}
    nearest: list[int | None] = []
    for place, op in enumerate(ops):
        before = {nearest[at] for at in op.inputs} - {None}
        only = before.pop() if len(before) == 1 else SEVERAL if before else None
        nearest.append(place if place in matrices else only)
    return {layer.op: _nearest(ops, nearest, layer.op) for layer in layers}


def _nearest(ops: Sequence[Op], nearest: Sequence[int | None], place: int) -> int:
    """Return the matrix before an operation, or before the first that combines its result with data."""
    reached = {place}
    for at in range(place, len(ops)):
        if at in reached or not reached.isdisjoint(ops[at].inputs):
            reached.add(at)
            found = nearest[at]
            if found is not None:
                return found
    return SEVERAL
