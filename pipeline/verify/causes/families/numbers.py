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
from pipeline.verify.checks.places import SOURCES
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
    if any(map(_is_mask, singles)) and any(map(_is_mask, extra)):
        # Two masks, which differ where a whole row is hidden alone.
        yield from _pairs(
            ours, theirs,
            [s for s in singles if _is_mask(s)], [s for s in extra if _is_mask(s)],
        )  # fmt: skip
        singles = [s for s in singles if not _is_mask(s)]
        extra = [s for s in extra if not _is_mask(s)]
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
        edit = _changed(ours, place, at_, value)
        yield Candidate(kind, (edit,), difference, remedy)
        alike = [
            s for s in sites(ours) if s[2] == old and ours.ops[s[0]].name == ours.ops[place].name
        ]
        if len(alike) > 1:
            edits = tuple(_changed(ours, other, order, value) for other, order, _ in alike)
            yield Candidate(kind, edits, difference, remedy)


def sites(flow: Flow) -> list[Site]:
    """Return the numbers of a region's operations."""
    found = [
        (place, at_, value)
        for place in flow.surroundings
        if (not flow.ops[place].only_moves or not flow.ops[place].inputs)
        and flow.ops[place].name not in SHAPES
        and flow.ops[place].fingerprint is not None
        and flow.ops[place].window is None
        for at_, value in enumerate(flow.ops[place].numbers)
        if not (flow.ops[place].name == "max" and np.isinf(value))  # where a maximum starts
    ]  # fmt: skip
    return found + _filled(flow)


def _filled(flow: Flow) -> list[Site]:
    """Return constants that are filled with one number; their place among its numbers is -1."""
    found = []
    for place in flow.surroundings:
        op = flow.ops[place]
        if op.inputs or not op.shape or op.fingerprint is None or op.name in SOURCES:
            continue
        if op.fingerprint[4] == op.fingerprint[5] and op.name not in ("empty", "broadcast_in_dim"):
            found.append((place, -1, float(op.fingerprint[5])))
    return found


def _changed(flow: Flow, place: int, order: int, value: float) -> Edit:
    """Replace a number of an operation, or what a constant is filled with."""
    if order >= 0:
        return Edit(place, numbers={order: value})
    return Edit(place, value=np.full(flow.ops[place].shape, value))


def _only(mine: Sequence[Site], other: Sequence[Site]) -> list[Site]:
    """Return numbers that the other side has not, one site for each, or not as often, all of them."""
    found: list[Site] = []
    for value in dict.fromkeys(site[2] for site in mine):
        own = [site for site in mine if site[2] == value]
        count = sum(is_near(value, far[2]) or value == far[2] for far in other)
        if len(own) > count:
            found += own[:1] if not count else own[:4]
    return found


def _forms(value: float) -> list[float]:
    """Return a number as it is, and as the other side may write it: a rate for what it keeps, an inverse."""
    found = [value]
    if 0 < value < 1:
        found.append(1 - value)
    if value and abs(value) != 1 and np.isfinite(value):
        found.append(1 / value)
    return found


def _is_mask(site: Site) -> bool:
    return site[2] <= -MASK or not np.isfinite(site[2])


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
                if at_ >= 0 and (is_near(number_, value) or is_near(number_, 1 - value))
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
            _changed(ours, place, at_, new[value])
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


def propose_smoothing(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose that ours smooths labels: shares of 1 - r for the label, and r over the classes."""
    del theirs
    is_loss = any(len(ours.ops[place].shape) < 2 for place in ours.roots)
    mine = [site for site in sites(ours) if site[1] >= 0] if is_loss else []
    for place, order, value in mine:
        for other, second, share in mine:
            count = (1 - value) / share if share and np.isfinite(share) else 0.0
            if not 0.5 <= value < 1 or count < 1.5 or not is_near(count, round(count)):
                continue
            edits = Edit(place, numbers={order: 1.0}), Edit(other, numbers={second: 0.0})
            difference = (
                f"{at(ours, place)} smooths labels by {number(1 - value)}, the other side does not"
            )
            remedy = f"label_smoothing=0 on the {ours.name}"
            yield Candidate("label smoothing", edits, difference, remedy)


def kind_of_number(flow: Flow, place: int) -> str:
    """Name a number by what the operation that takes it is for."""
    name, after = flow.ops[place].name, names_after(flow, place)
    before = names_before(flow, place)
    near = {place, *flow.consumers.get(place, ()), *flow.ops[place].inputs}
    if flow.updates & set(flow.roots) and flow.updates & flow.within(place, 3):
        return "running statistics momentum"
    if near & drawn(flow, "normal"):
        return "size of noise"
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
    if after & SELECTS and after & SOFTMAX:
        return "mask value"
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
