"""Causes: norms over other axes, of another variance, with epsilon in another place."""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from pipeline.verify.causes.candidate import Candidate
from pipeline.verify.causes.families.activations import is_same, numbers_near
from pipeline.verify.causes.flow import Flow
from pipeline.verify.causes.words import ROOTS, SUMS, at, number
from pipeline.verify.replay.namespace import NUMPY
from pipeline.verify.replay.norms import DEVIATIONS, deviation, mean
from pipeline.verify.sides.subject import Edit
from pipeline.verify.trace.fingerprints import Fingerprint, fingerprint

# How a norm divides: axes, epsilon, kind of deviation, and 1 if the result is its inverse.
Norm = tuple[tuple[int, ...], float, str]
KINDS = {
    "variance": "the variance",
    "unbiased": "the unbiased variance",
    "square": "the mean square (RMS)",
}


def propose_norms(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose the other side's norm of a value: other axes, variance, epsilon, or RMS."""
    seen: set[int] = set()
    for place in ours.region:
        for source in ours.sources(place)[-1:]:
            if source in seen or len(ours.ops[source].shape) > 5:
                continue
            seen.add(source)
            yield from _of_source(ours, theirs, source)


def propose_roots(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose epsilon outside the root of a variance that is kept, such as a running one."""
    del theirs
    for place in ours.surroundings:
        op = ours.ops[place]
        inputs = [ours.ops[p] for p in op.inputs]
        if op.name not in ROOTS or len(inputs) != 1 or inputs[0].name not in SUMS:
            continue
        numbers, before = inputs[0].numbers, [p for p in inputs[0].inputs if ours.ops[p].shape]
        epsilon = next((n for n in numbers if 0 < n < 0.5), None)
        if epsilon is None or not before:
            continue
        function = "root_outside" if op.name == "sqrt" else "inverse_root_outside"
        edit = Edit(place, function=function, inputs=(before[0],), arguments=(epsilon,))
        inside = f"{at(ours, place)} adds epsilon {number(epsilon)} inside the root"
        difference = f"{inside}, the other side outside"
        remedy = f"epsilon outside the root on the {ours.name}"
        yield Candidate("epsilon inside or outside the root", (edit,), difference, remedy)


def propose_groups(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose another number of groups that a norm splits the channels into."""
    del theirs
    for place in ours.region:
        inputs = [p for p in ours.ops[place].inputs if ours.ops[p].only_moves]
        for split in inputs if "mean" in ours.ops[place].name else []:
            numbers = ours.ops[split].numbers
            if len(numbers) != 3 or numbers[-1] != -1:  # [batch, groups, rest]
                continue
            for groups in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32):
                edit = Edit(split, numbers={1: groups})
                difference = (
                    f"{at(ours, place)} has {numbers[1]:.0f} groups, the other side {groups}"
                )
                if groups != numbers[1]:
                    remedy = f"{groups} groups on the {ours.name}"
                    yield Candidate("number of groups", (edit,), difference, remedy)


def _of_source(ours: Flow, theirs: Flow, source: int) -> Iterator[Candidate]:
    epsilons = {n for n in numbers_near(ours) | numbers_near(theirs) if 0 < n < 0.5} | {0.0}
    x = ours.value(source)
    if not np.issubdtype(x.dtype, np.floating):
        return
    norms = images(x, sorted(epsilons)[:8])
    sites = [(p, k, inverse) for p in ours.region for k, pair in norms.items()
             for inverse in (False, True) if is_same(pair[inverse], ours.ops[p].fingerprint)]  # fmt: skip
    others = [(hits[0], k) for k, pair in norms.items() for print_ in pair
              if (hits := [p for p in theirs.find(print_) if theirs.found[p] == 0])]  # fmt: skip
    for place, mine, inverse in sites:
        for other, new in dict(reversed(others)).items():
            if mine == new:
                continue
            edit = Edit(
                place, function="normal", inputs=(place, source), arguments=(mine[0], *new, inverse)
            )
            edits = (edit, *_means(ours, source, mine, new))
            difference = (
                f"{at(ours, place)} divides by {_words(mine)}, {at(theirs, other)} by {_words(new)}"
            )
            yield Candidate(
                _name(mine, new), edits, difference, f"{_words(new)} on the {ours.name}"
            )


def images(x: np.ndarray, epsilons: list[float]) -> dict[Norm, tuple[Fingerprint, Fingerprint]]:
    """Return the fingerprints of what norms of a value divide by, and of its inverse."""
    found: dict[Norm, tuple[Fingerprint, Fingerprint]] = {}
    for count in range(1, x.ndim + 1):
        for axes in combinations(range(x.ndim), count):
            if np.prod([x.shape[axis] for axis in axes]) < 2:
                continue
            for kind in DEVIATIONS:
                for epsilon in epsilons:
                    if epsilon == 0 and kind.endswith("outside"):
                        continue
                    with np.errstate(all="ignore"):
                        y = deviation(NUMPY, x, axes, epsilon, kind)
                        found[axes, epsilon, kind] = fingerprint(y), fingerprint(1 / y)
    return found


def _means(ours: Flow, source: int, mine: Norm, new: Norm) -> tuple[Edit, ...]:
    """Return the edits of the mean that a norm subtracts, where it is another one, or none."""
    if new[2].startswith("square") == mine[2].startswith("square") and mine[0] == new[0]:
        return ()
    print_ = fingerprint(mean(NUMPY, ours.value(source), mine[0]))
    places = [p for p in ours.after(source) if is_same(print_, ours.ops[p].fingerprint)]
    if not new[2].startswith("square"):
        return tuple(
            Edit(p, function="mean", inputs=(p, source), arguments=(mine[0], new[0]))
            for p in places
        )
    taken = {c for p in places for c in ours.consumers.get(p, ()) if ours.ops[c].name in SUMS}
    return tuple(
        Edit(c, function="identity", inputs=(source,))
        for c in taken
        if ours.ops[c].shape == ours.ops[source].shape
    )


def _words(norm: Norm) -> str:
    axes, epsilon, kind = norm
    over = f"{'axes' if len(axes) > 1 else 'axis'} {', '.join(map(str, axes))}"
    text = f"the root of {KINDS[kind.split()[0]]} over {over}"
    where = " outside the root" if kind.endswith("outside") else ""
    return f"{text} with epsilon {number(epsilon)}{where}" if epsilon else text


def _name(mine: Norm, new: Norm) -> str:
    if mine[0] != new[0]:
        return "norm axes"
    kinds = mine[2].split()[0], new[2].split()[0]
    if "square" in kinds and kinds[0] != kinds[1]:
        return "RMS norm or layer norm"
    if kinds[0] != kinds[1]:
        return "biased variance"
    if mine[2] != new[2]:
        return "epsilon inside or outside the root"
    return "norm epsilon"
