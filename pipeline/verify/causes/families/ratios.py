"""Causes: a value that differs by a constant factor or summand."""

from collections import Counter
from collections.abc import Iterator

import numpy as np

from pipeline.verify.causes.candidate import Candidate
from pipeline.verify.causes.flow import Flow
from pipeline.verify.causes.words import ROOTS, SOFTMAX, at, drawn, is_near, names_after, number
from pipeline.verify.checks.places import SOURCES
from pipeline.verify.sides.subject import Edit
from pipeline.verify.trace.fingerprints import Fingerprint
from pipeline.verify.trace.graph import Role

EXACT = 1e-9


def propose_ratios(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose the constant factor by which a value of ours differs from one of the other side."""
    for place, other, prints in _pairs(ours, theirs):
        if (factor := ratio(*prints)) is not None and (ours.ops[place].shape or _is_round(factor)):
            yield _scaled(ours, theirs, place, other, factor)


def propose_summands(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose the constant summand by which a value of ours differs from one of the other side."""
    for place, other, prints in _pairs(ours, theirs):
        if ours.ops[place].shape and (summand := shift(*prints)) is not None:
            yield _shifted(ours, theirs, place, other, summand)


def _pairs(ours: Flow, theirs: Flow) -> Iterator[tuple[int, int, tuple[Fingerprint, Fingerprint]]]:
    """Yield results of both regions, or what they take, that may differ by a constant."""
    for place in ours.region:
        for other in [*theirs.entering, *theirs.region]:
            prints = ours.ops[place].fingerprint, theirs.ops[other].fingerprint
            if prints[0] is not None and prints[1] is not None:
                yield place, other, (prints[0], prints[1])


def propose_shifted_arrays(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose one more in a factor that is a parameter, as in Gemma's norm: x · (1 + w)."""
    del theirs
    region = set(ours.region)
    arrays = {
        place
        for use in ours.trace.uses
        if use.role in (Role.scale, Role.other, Role.shift) and use.op in region
        for place in ours.ops[use.op].inputs
        if ours.ops[place].name in SOURCES and ours.ops[place].name != "constant"
        and sum(size > 1 for size in ours.ops[place].shape) == 1
    }  # fmt: skip
    for place in sorted(arrays):
        name = ours.ops[place].layer
        for summand, words in ((1.0, "1 + its factor"), (-1.0, "its factor without the 1")):
            edit = Edit(place, function="shift", arguments=(summand,))
            less = "1 more" if summand < 0 else "1 less"
            difference = f"{ours.name} multiplies with {less} than the other side, by {name}"
            yield Candidate(
                "norm factor plus one", (edit,), difference, f"{words} on the {ours.name}"
            )


def _is_round(factor: float) -> bool:
    """True for a whole number, its inverse, or one of few digits: two single numbers have any ratio."""
    return any(is_near(n, round(n, 3)) and abs(n) >= 0.01 for n in (factor, 1 / factor))


def ratio(left: Fingerprint, right: Fingerprint) -> float | None:
    """Return the constant factor from the left values to the right ones, or None."""
    if not (np.isfinite(left).all() and np.isfinite(right).all()) or not left[0] or not right[0]:
        return None
    size = right[0] / left[0]
    if abs(size - 1) < 1e-7 and np.allclose(left, right, rtol=0, atol=1e-7 * left[0]):
        return None
    for factor in (size, -size):
        scaled = factor * left
        if factor < 0:
            scaled = np.array([-scaled[0], scaled[1], -scaled[2], scaled[3], scaled[5], scaled[4]])
        gap = np.abs(scaled - right)
        if min(abs(left[3]), abs(right[3])) < 0.01 * min(left[0], right[0]):
            gap = np.delete(gap, 3)
        if gap.max() <= EXACT * right[0]:
            return float(factor)
    return None


def shift(left: Fingerprint, right: Fingerprint) -> float | None:
    """Return the constant summand from the left values to the right ones, or None."""
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        return None
    summand = right[1] - left[1]
    scale = max(left[0], right[0])
    squares = left[0] ** 2 + 2 * summand * left[1] + summand**2
    gaps = [right[4] - left[4] - summand, right[5] - left[5] - summand,
            np.sqrt(max(0.0, squares)) - right[0]]  # fmt: skip
    is_one = max(map(abs, gaps)) <= EXACT * scale and abs(summand) > 1e-7 * scale
    return float(summand) if is_one else None


def _scaled(ours: Flow, theirs: Flow, place: int, other: int, factor: float) -> Candidate:
    name = kind_of_factor(ours, place, factor)
    if name == "constant factor":
        name = kind_of_factor(theirs, other, 1 / factor)
    if name == "dropout rate":
        name = _name_of_dropout(ours, theirs)
    difference = f"{at(ours, place)} is {number(1 / factor)} times {at(theirs, other)}"
    edit = Edit(place, function="scale", arguments=(factor,))
    return Candidate(name, (edit,), difference, f"a factor of {number(factor)} on the {ours.name}")


def _shifted(ours: Flow, theirs: Flow, place: int, other: int, summand: float) -> Candidate:
    words = f"{number(abs(summand))} {'more' if summand > 0 else 'less'}"
    difference = f"{at(theirs, other)} is {words} than {at(ours, place)}"
    edit = Edit(place, function="shift", arguments=(summand,))
    remedy = f"{number(summand)} added on the {ours.name}"
    is_factor = not ours.depends[place] and not theirs.depends[other] and is_near(abs(summand), 1)
    name = "norm factor plus one" if is_factor else "constant summand"
    return Candidate(name, (edit,), difference, remedy)


def _name_of_dropout(ours: Flow, theirs: Flow) -> str:
    """Tell dropout of another rate from one that is missing, or does not scale what it keeps."""
    rates = [
        Counter(round(draw.number, 12) for draw in flow.trace.draws if draw.kind == "bernoulli")
        for flow in (ours, theirs)
    ]
    if rates[0] == rates[1]:
        return "dropout scale"
    return "missing dropout" if not all(rates) or set(rates[0]) == set(rates[1]) else "dropout rate"


def kind_of_factor(flow: Flow, place: int, factor: float) -> str:
    """Name a missing or additional factor of a result by what the result is for."""
    after = names_after(flow, place)
    size = next((n for n in (factor, 1 / factor) if n > 1 and is_near(n, round(n))), 0)
    if size and np.prod(flow.ops[place].shape) == 1 and flow.depends[place]:
        return "loss reduction"
    count = 1 / (factor - 1) if abs(factor - 1) > 1e-12 else 0.0
    inverse = 1 / (1 / factor - 1) if abs(factor - 1) > 1e-12 else 0.0
    is_unbiased = any(n > 1 and abs(n - round(n)) < 1e-5 * n for n in (count, inverse))
    if is_unbiased and flow.updates & flow.within(place, 6):
        return "biased running variance"
    if is_unbiased and (after & ROOTS or flow.ops[place].name in ROOTS):
        return "biased variance"
    if {place, *flow.ops[place].inputs} & drawn(flow) or flow.within(place, 3) & drawn(flow):
        return "dropout rate"
    if set(flow.trace.results.values()) & flow.within(place, 2):
        return "constant factor"  # of an output, which a loss takes
    if "softmax" in after or after & SOFTMAX:
        return "attention scale"
    data = [p for p in flow.ops[place].inputs if flow.depends[p]]
    if any(len(flow.consumers.get(p, ())) > 1 for p in data):
        return "constant factor"  # what is scaled is used elsewhere, too: a residual
    lookups = {use.op for use in flow.trace.uses if use.role is Role.lookup}
    if {place, *flow.chain(place, 4), *flow.ops[place].inputs} & lookups:
        return "embedding scale"
    return "constant factor"
