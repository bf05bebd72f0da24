"""Parameters that agree by name, yet do one another's work.

Where the names of two models differ, whatever makes them the same is their alignment. Where names agree,
they say what is meant: a port whose `query` does the work of `key` is wrong, although other weights would
make it right.
"""

from collections.abc import Sequence

from pipeline.verify.alignment.layers import Layer, root
from pipeline.verify.alignment.match import Match
from pipeline.verify.alignment.names import words
from pipeline.verify.trace.graph import Trace
from pipeline.verify.verdict import Cause, First, Part


def find_exchanged(
    matches: Sequence[Match], traces: tuple[Trace, Trace]
) -> tuple[First, Cause] | None:
    """Return the first layers of one name that the alignment had to exchange or to reorder."""
    single = [match for match in matches if len(match.left) == len(match.right) == 1]
    by_name = {tuple(words(match.left[0].name)): match.right[0] for match in single}
    for match in single:
        left, right = match.left[0], match.right[0]
        if words(left.name) == words(right.name):
            is_patched = left.elements.ndim != right.elements.ndim  # a kernel, and a matrix
            flattened = is_patched or _is_flattened(left, right, traces)
            if match.columns is not None and not flattened:
                return _reordered(left, right)
            continue
        other = by_name.get(tuple(words(right.name)))
        if other is not None and words(other.name) == words(left.name):
            return _swapped(left, right)
    return None


def _swapped(left: Layer, right: Layer) -> tuple[First, Cause]:
    remedy = (
        f"on the right, {right.name} does the work of {left.name} on the left: with the two exchanged, "
        "what they compute is the same"
    )
    return First(Part.weights, left.name, right.name, 1.0), Cause("exchanged weights", remedy, True)


def _reordered(left: Layer, right: Layer) -> tuple[First, Cause]:
    remedy = (
        f"{right.name} takes its inputs in another order than {left.name}: with its weights reordered, "
        "what they compute is the same (heads split or merged the other way round, parts concatenated in "
        "another order)"
    )
    return First(Part.weights, left.name, right.name, 1.0), Cause("order of features", remedy, True)


def _is_flattened(left: Layer, right: Layer, traces: tuple[Trace, Trace]) -> bool:
    """True if a layer takes images flattened channels first on one side, and last on the other."""
    if left.data is None or right.data is None:
        return False
    ours = traces[0].ops[root(traces[0].ops, left.data)].shape
    theirs = traces[1].ops[root(traces[1].ops, right.data)].shape
    if len(ours) != len(theirs) or len(ours) < 3:
        return False
    last = (ours[0], *ours[2:], ours[1])
    first = (ours[0], ours[-1], *ours[1:-1])
    return (theirs in (last, first) and theirs != ours) or _all_alike(ours, theirs)


def _all_alike(ours: tuple[int, ...], theirs: tuple[int, ...]) -> bool:
    """True where channels, height and width are as many, so that shapes do not tell them apart."""
    return ours == theirs and len(set(ours[1:])) == 1
