"""Causes: masks and positions."""

from collections.abc import Iterator

from pipeline.verify.causes.candidate import Candidate
from pipeline.verify.causes.families.activations import numbers_near
from pipeline.verify.causes.flow import Flow
from pipeline.verify.causes.words import PRODUCTS, at, is_softmax
from pipeline.verify.checks.places import SOURCES
from pipeline.verify.sides.subject import Edit
from pipeline.verify.trace.graph import Role

OFFSETS = (1, -1, 2, -2)


def propose_masks(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose another causal mask: one more position, one less, the other half."""
    del theirs
    masks = [
        p for p in ours.surroundings
        if _is_square(ours.ops[p].shape) and not ours.depends[p] and ours.ops[p].name not in SOURCES
    ]  # fmt: skip
    for mask in masks[::-1][:6]:
        for rows in (1, -1):
            edit = Edit(mask, function="causal", arguments=(rows,))
            more = "one position less" if rows > 0 else "one position more"
            difference = f"the causal mask of {at(ours, mask)} lets each position see {more}"
            remedy = f"the diagonal {'up' if rows > 0 else 'down'} by one on the {ours.name}"
            yield Candidate("causal mask off by one", (edit,), difference, remedy)
        if ours.ops[mask].dtype == "bool":
            edit = Edit(mask, function="not")
            difference = f"the mask of {at(ours, mask)} hides what the other side shows"
            yield Candidate("mask inverted", (edit,), difference, f"it inverted on the {ours.name}")
    given = [p for p in ours.surroundings if ours.ops[p].dtype == "bool" and ours.depends[p]]
    for mask in given[::-1][:4]:
        edit = Edit(mask, function="not")
        difference = f"the mask of {at(ours, mask)} hides what the other side shows"
        yield Candidate("mask inverted", (edit,), difference, f"it inverted on the {ours.name}")


def propose_late_masks(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose that ours hides weights behind the softmax, whose sum is then no longer one."""
    del theirs
    for place in ours.region:
        op = ours.ops[place]
        weights = [p for p in op.inputs if ours.ops[p].shape == op.shape and is_softmax(ours, p)]
        if op.name not in PRODUCTS or len(op.inputs) != 2 or not weights:
            continue
        edit = Edit(place, function="shares", arguments=(len(op.shape) - 1,))
        difference = (
            f"{at(ours, place)} applies the mask to the weights behind the softmax, the other side to "
            "the scores before it"
        )
        remedy = f"weights that are divided by their sum on the {ours.name}"
        yield Candidate("mask after the softmax", (edit,), difference, remedy)


def _is_square(shape: tuple[int, ...]) -> bool:
    return len(shape) >= 2 and shape[-1] == shape[-2] > 1


def propose_positions(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose rows of a table, or positions of waves, that begin with another number."""
    bounds = sorted({int(n) for n in numbers_near(theirs) if 0 < n < 1e6 and n == int(n)})
    region = set(ours.region)
    for use in ours.trace.uses:
        if use.role is not Role.lookup or use.op not in region:
            continue
        indices = [p for p in ours.ops[use.op].inputs if ours.ops[p].fingerprint is None]
        for index in indices:
            yield from _offsets(ours, index, use.op)
            for bound in bounds[:8]:
                edit = Edit(index, function="at_most", arguments=(bound,))
                difference = (
                    f"positions of {at(ours, use.op)} do not end, those of the other side do"
                )
                remedy = f"at most {bound} on the {ours.name}"
                yield Candidate("clipping bound", (edit,), difference, remedy)
    # Positions that are computed: integers, or the same as floats.
    for place in ours.surroundings:
        op = ours.ops[place]
        if not op.inputs and op.name in ("arange", "iota") and len(op.shape) <= 2:
            yield from _offsets(ours, place, place)


def _offsets(ours: Flow, index: int, place: int) -> Iterator[Candidate]:
    for offset in OFFSETS:
        edit = Edit(index, function="shift", arguments=(offset,))
        less = f"{abs(offset)} {'lower' if offset > 0 else 'higher'} than on the other side"
        difference = f"positions of {at(ours, place)} begin {less}"
        remedy = (
            f"{abs(offset)} {'added to' if offset > 0 else 'taken from'} them on the {ours.name}"
        )
        yield Candidate("position offset", (edit,), difference, remedy)
