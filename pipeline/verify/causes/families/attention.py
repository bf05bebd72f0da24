"""Causes: orders of features within attention: heads, rotary positions."""

from collections.abc import Iterator

import numpy as np

from pipeline.verify.causes.candidate import Candidate
from pipeline.verify.causes.flow import MATRICES, Flow
from pipeline.verify.causes.words import at
from pipeline.verify.sides.subject import Edit


def propose_feature_orders(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose another order of the features that are split into heads, or rotated in pairs."""
    del theirs
    region = set(ours.region)
    taken: dict[int, None] = {}
    for place in ours.region:
        for other in ours.ops[place].inputs:
            if other not in region and ours.depends[other] and ours.found[other] == 1:
                taken[other] = None
    values = [p for p in taken if len(ours.ops[p].shape) >= 2]
    yield from _rotary(ours, values)
    yield from _heads(ours)


def _rotary(ours: Flow, values: list[int]) -> Iterator[Candidate]:
    """Rotary positions that turn neighbours against those that turn the halves."""
    cut = [p for p in values if _is_cut(ours, p)]
    sizes = {ours.ops[p].shape[-1] for p in cut}
    for size in sorted(sizes):
        if size % 2 or size < 4:
            continue
        alike = [p for p in cut if ours.ops[p].shape[-1] == size]
        pairs = np.arange(size).reshape(2, -1).T.ravel()  # halves → neighbours
        for order, mine, other in (
            (np.argsort(pairs), "halves", "neighbours"),
            (pairs, "neighbours", "halves"),
        ):
            edits = tuple(
                Edit(p, function="permute", arguments=(tuple(order.tolist()), -1)) for p in alike
            )
            names = {"halves": "features i and i + d/2", "neighbours": "features 2i and 2i + 1"}
            difference = (
                f"the rotary positions of {at(ours, alike[0])} turn {names[mine]} together, those of the "
                f"other side {names[other]}"
            )
            yield Candidate(
                "rotary layout", edits, difference, f"{names[other]} on the {ours.name}"
            )


def _is_cut(flow: Flow, place: int) -> bool:
    """True if some of a result's features are taken from it."""
    size = np.prod(flow.ops[place].shape)
    return any(
        (flow.ops[c].only_moves and np.prod(flow.ops[c].shape) * 2 == size)
        or (np.prod(flow.ops[c].shape) == size and flow.ops[c].only_moves and flow.found[c] == 0)
        for c in flow.consumers.get(place, ())
    )  # fmt: skip


def _heads(ours: Flow) -> Iterator[Candidate]:
    """Features of heads one after the other against heads within each feature."""
    place = next((p for p in ours.region if not ours.ops[p].only_moves), None)
    if place is None or len(ours.ops[place].inputs) < 2:
        return
    end = _next_data(ours, place)
    projections = _projections(ours, end) if end is not None else []
    if end is None or len(projections) < 2:
        return
    width = ours.ops[projections[0]].shape[-1]
    heads = {size for p in ours.ops[place].inputs for size in ours.ops[p].shape}
    for count in sorted(h for h in heads if 1 < h < width and width % h == 0):
        order = np.arange(width).reshape(count, -1).T.ravel()
        back = np.argsort(order)
        for first, last in ((order, back), (back, order)):
            edits = (*(permuted(p, first) for p in projections), permuted(end, last))
            difference = (
                f"{at(ours, place)} splits its features into heads in another order than the other side: "
                "one reshapes to [heads, size of a head], one to [size of a head, heads]"
            )
            remedy = f"the other order of heads on the {ours.name}"
            yield Candidate("head order", edits, difference, remedy, until=end)


def _next_data(flow: Flow, place: int) -> int | None:
    """Return what the next layer with a matrix takes of what follows from a result."""
    after = flow.after(place) | {place}
    data = [use.data for use in flow.trace.uses if use.role in MATRICES and use.data in after]
    return min((p for p in data if p is not None), key=flow.rank.__getitem__, default=None)


def _projections(flow: Flow, place: int) -> list[int]:
    """Return the results of layers that a layer without parameters works on."""
    last = {}
    for use in flow.trace.uses:
        if use.op not in flow.after(place) and flow.ops[use.op].fingerprint is not None:
            ends = flow.within(use.op, 2) & flow.uses_arrays | {use.op}
            last[max(ends)] = len(flow.after(max(ends)))
    found = [p for p in last if place in flow.after(p) and flow.found[p] == 1]
    tops = [p for p in found if not any(q in flow.after(p) for q in found if q != p)]
    width = {flow.ops[p].shape[-1] for p in tops if flow.ops[p].shape}
    return sorted(tops) if len(width) == 1 else []


def permuted(place: int, order: np.ndarray) -> Edit:
    """Return the edit that puts a result's features in another order."""
    return Edit(place, function="permute", arguments=(tuple(order.tolist()), -1))
