"""Causes: a number, or several, that the two sides have otherwise."""

from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.verify.causes.candidate import Candidate
from pipeline.verify.causes.flow import Flow
from pipeline.verify.causes.words import (
    PRODUCTS,
    ROOTS,
    SELECTS,
    SOFTMAX,
    SUMS,
    WAVES,
    at,
    drawn,
    is_near,
    names_after,
    names_before,
    number,
)  # fmt: skip
from pipeline.verify.sides.subject import Edit

Site = tuple[int, int, float]  # operation, which of its numbers, the number
MASK = 1e4  # beyond which a number is that of a mask
MOST = 24  # replacements of one number that are tried
# Operations whose numbers are axes, sizes or places.
SHAPES = {"mean", "sum", "amax", "var", "_softmax", "_safe_softmax", "_log_softmax", "cumsum", "unsqueeze",
    "row", "constant_pad_nd", "select", "arange", "cat", "stack", "empty", "zeros", "ones", "full_like",
    "gather", "embedding", "scatter", "topk", "sort", "argmax", "repeat", "roll"}  # fmt: skip


def propose_numbers(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose the other side's numbers in place of ours."""
    mine, other = sites(ours), sites(theirs)
    yield from _complements(ours, mine)
    singles, extra = _only(mine, other), _only(other, mine)
    if any(abs(s[2]) > MASK for s in singles) and any(abs(s[2]) > MASK for s in extra):
        # Two masks, which differ where a whole row is hidden alone.
        yield from _pairs(
            ours, theirs,
            [s for s in singles if abs(s[2]) > MASK], [s for s in extra if abs(s[2]) > MASK],
        )  # fmt: skip
        singles = [s for s in singles if abs(s[2]) <= MASK]
        extra = [s for s in extra if abs(s[2]) <= MASK]
    if 1 < len(singles) == len(extra) <= 6:
        yield from _together(ours, theirs, singles, extra)
    yield from _pairs(ours, theirs, singles, extra)


def _pairs(
    ours: Flow, theirs: Flow, singles: Sequence[Site], extra: Sequence[Site]
) -> Iterator[Candidate]:
    """Propose one number of the other side for one of ours, the likeliest first."""
    trials = []
    for site in singles:
        kind = kind_of_number(ours, site[0])
        for far in extra:
            same = kind == kind_of_number(theirs, far[0])
            for value in _forms(far[2]):
                trials.append((not same, value != far[2], _gap(site[2], value), site, far, value))
    trials.sort(key=lambda trial: trial[:3])
    for *_, site, far, value in trials[:MOST]:
        kind = kind_of_number(ours, site[0])
        place, at_, old = site
        there = kind_of_number(theirs, far[0])
        kind = there if kind == "constant" else kind
        difference = (
            f"{at(ours, place)} uses {kind} {number(old)}, {at(theirs, far[0])} {number(far[2])}"
        )
        remedy = f"{kind} {number(value)} on the {ours.name}"
        edit = Edit(place, numbers={at_: value})
        yield Candidate(kind, (edit,), difference, remedy)
        alike = [
            s for s in sites(ours) if s[2] == old and ours.ops[s[0]].name == ours.ops[place].name
        ]
        if len(alike) > 1:
            edits = tuple(Edit(other, numbers={order: value}) for other, order, _ in alike)
            yield Candidate(kind, edits, difference, remedy)


def sites(flow: Flow) -> list[Site]:
    """Return the numbers of a region's operations."""
    return [
        (place, at_, value)
        for place in flow.surroundings
        if not flow.ops[place].only_moves and flow.ops[place].name not in SHAPES
        and flow.ops[place].fingerprint is not None
        and flow.ops[place].window is None
        for at_, value in enumerate(flow.ops[place].numbers)
    ]  # fmt: skip


def _only(mine: Sequence[Site], other: Sequence[Site]) -> list[Site]:
    """Return numbers that the other side does not have, one site for each."""
    known, found = [value for _, _, value in other], {}
    for site in mine:
        if not any(is_near(site[2], value) or site[2] == value for value in known):
            found.setdefault(site[2], site)
    return list(found.values())


def _forms(value: float) -> list[float]:
    """Return a number as it is, and as the other side may write it: a rate for what it keeps, an inverse."""
    found = [value]
    if 0 < value < 1:
        found.append(1 - value)
    if value and abs(value) != 1 and np.isfinite(value):
        found.append(1 / value)
    return found


def _gap(left: float, right: float) -> float:
    if not left or not right or not np.isfinite([left, right]).all():
        return 10.0
    return abs(np.log(abs(left / right))) + (left * right < 0)


def _complements(ours: Flow, mine: Sequence[Site]) -> Iterator[Candidate]:
    """Propose momentum the other way round: all pairs of numbers m and 1 - m exchanged."""
    values = {value for _, _, value in mine if 0 < value < 1}
    for value in sorted(values):
        if value < 0.5 and any(is_near(1 - value, other) for other in values):
            edits = tuple(
                Edit(place, numbers={at_: 1 - number_})
                for place, at_, number_ in mine
                if is_near(number_, value) or is_near(number_, 1 - value)
            )
            kind = "running statistics momentum"
            difference = (
                f"{at(ours, edits[0].op)} keeps {number(1 - value)} of what it had and takes "
                f"{number(value)} of the new, the other side the other way round"
            )
            remedy = f"momentum {number(1 - value)} for {number(value)} on the {ours.name}"
            yield Candidate(kind, edits, difference, remedy)


def _together(
    ours: Flow, theirs: Flow, mine: Sequence[Site], other: Sequence[Site]
) -> Iterator[Candidate]:
    """Propose all numbers at once: in the order of execution, or of their sizes."""
    by_size = sorted(mine, key=lambda s: s[2]), sorted(other, key=lambda s: s[2])
    for left, right in ((mine, other), by_size):
        new = {old[2]: far[2] for old, far in zip(left, right, strict=True)}
        edits = tuple(
            Edit(place, numbers={at_: new[value]})
            for place, at_, value in sites(ours)
            if value in new
        )
        kind = kind_of_number(ours, mine[0][0])
        if kind == "constant":
            kind = kind_of_number(theirs, other[0][0])
        ours_, theirs_ = (", ".join(number(s[2]) for s in part) for part in (left, right))
        difference = (
            f"{at(ours, mine[0][0])} uses {kind} {ours_}, {at(theirs, other[0][0])} {theirs_}"
        )
        yield Candidate(kind, edits, difference, f"{theirs_} on the {ours.name}")


def kind_of_number(flow: Flow, place: int) -> str:
    """Name a number by what the operation that takes it is for."""
    name, after = flow.ops[place].name, names_after(flow, place)
    before = names_before(flow, place)
    near = {place, *flow.consumers.get(place, ()), *flow.ops[place].inputs}
    if flow.updates & set(flow.roots) and flow.updates & flow.within(place, 3):
        return "running statistics momentum"
    if near & drawn(flow):
        return "dropout rate"
    if (name in SUMS and (after & ROOTS or before & ROOTS)) or (name == "max" and after & ROOTS):
        return "norm epsilon"
    if name in SELECTS or (after & SELECTS and (abs(flow_number(flow, place)) > 1e3)):
        return "mask value"
    if after & WAVES or (name in ("pow", "exp") and "cos" in after):
        return "rope theta" if name == "pow" else "position scale"
    if "softmax" in after or (after & SOFTMAX and name in PRODUCTS):
        return "mask value" if abs(flow_number(flow, place)) > 1e3 else "attention scale"
    if name in ("leaky_relu", "elu") or after & SELECTS:
        return "negative slope" if name != "elu" else "alpha"
    if name in ("clamp", "hardtanh", "clip", "min", "max", "clamp_min", "clamp_max"):
        return "clipping bound"
    if "_log_softmax" in before or "log_softmax" in before:
        return "label smoothing"
    return "constant"


def flow_number(flow: Flow, place: int) -> float:
    """Return the largest number among an operation's arguments."""
    return max(flow.ops[place].numbers, key=abs, default=0.0)
