"""Likely causes of a difference: a catalogue of mistakes, each of which is tried before it is named.

A family of causes looks at the first place where two passes part, on one side, and proposes edits of
that side's operations after which it would do what the other one does. An edit that makes the two agree
behind that place is applied to all places of the same kind, until the outputs agree: that is a confirmed
cause. The edited side need not be the wrong one: for tanh GELU against exact GELU, either side's
function may take the place of the other's.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain

import numpy as np

from pipeline.rng import generator
from pipeline.verify.causes.candidate import Candidate, Family
from pipeline.verify.causes.documented import with_row
from pipeline.verify.causes.families import FAMILIES
from pipeline.verify.causes.families.gradients import propose_gradients
from pipeline.verify.causes.families.leftovers import propose_leftovers
from pipeline.verify.causes.trial import BUDGET, Trial
from pipeline.verify.checks.checker import Checker, Finding
from pipeline.verify.sides.subject import Inputs
from pipeline.verify.verdict import SIDES, Cause, Part


def find_cause(
    checker: Checker,
    wrong: Finding,
    inputs: tuple[Inputs, Inputs],
    budget: float = BUDGET,
    check_gradients: bool = True,
) -> Cause | None:
    """Find the likely cause of a difference, with its remedy.

    The checker has both models loaded with the same weights and their outputs matched; `wrong` is the
    first difference in the order of cause and effect, found on `inputs`. Causes of a difference that
    shows in an optimizer step alone are left to the judge. Trials end when `budget`
    is spent, see `Trial`.

    Returns the cause, confirmed if the two agree with it (in outputs, or in what was wrong), or the first
    that mends the first place only; None if nothing does.
    """
    if wrong.part in (Part.weights, Part.update):
        return None
    trial = Trial(checker, wrong, inputs, budget)
    if wrong.part is Part.gradient:
        return _of_gradients(trial) or _stopped(checker, wrong, inputs)
    return _search(trial, _candidates(trial), check_gradients)


def find_cause_of_leftovers(
    checker: Checker,
    names: tuple[Sequence[str], Sequence[str]],
    inputs: tuple[Inputs, Inputs],
    budget: float = BUDGET,
) -> Cause | None:
    """Find why one side alone has parameters, given their names on the left and on the right.

    Their own values may have no effect, such as a bias of zeros: they are drawn for the search.
    """
    if all(names) or not any(names):
        return None
    side, subjects = (0 if names[0] else 1), (checker.left, checker.right)
    before = {name: subjects[side].values()[name] for name in names[side]}
    drawn = {
        name: array + 0.3 * generator(0, "leftover", name).standard_normal(array.shape)
        for name, array in before.items()
    }
    wrong = Finding(Part.weights, "", 1.0)
    try:
        subjects[side].load(drawn)
        trial = Trial(checker, wrong, inputs, budget)
        own = [
            (partial(propose_leftovers, names=names[side]), side, candidate)
            for candidate in propose_leftovers(
                trial.flows[side], trial.flows[1 - side], names[side]
            )
        ]
        found = _search(trial, chain(own, _candidates(trial)), False)
        if (found and found.confirmed) or any(array.ndim != 1 for array in before.values()):
            return found
        # What is left without these summands: a norm that subtracts no mean has none, either.
        subjects[side].load({name: np.zeros_like(array) for name, array in before.items()})
        again = Trial(checker, wrong, inputs, budget)
        return _search(again, _candidates(again), False) or found
    finally:
        subjects[side].load(before)


def _search(
    trial: Trial, candidates: Iterable[tuple[Family, int, Candidate]], check_gradients: bool
) -> Cause | None:
    """Return the first cause that makes the two agree, else the first that mends the first place."""
    guess: Cause | None = None
    for family, side, candidate in candidates:
        ours, theirs = trial.flows[side], trial.flows[1 - side]
        if not trial.works(ours, theirs, candidate):
            continue
        edits = trial.extend(family, side, candidate)
        if edits is None:
            guess = guess or _guessed(candidate, trial)
            continue
        agree = check_gradients and not trial.is_over and trial.gradients_agree(side, edits)
        return _confirmed(candidate, " in outputs and gradients" if agree else "")
    return guess


def _candidates(trial: Trial) -> Iterator[tuple[Family, int, Candidate]]:
    for family in FAMILIES:
        for side in range(len(SIDES)):
            for candidate in _proposed(family, trial, side):
                if trial.is_over:
                    return
                yield family, side, candidate


def _proposed(family: Family, trial: Trial, side: int) -> Iterator[Candidate]:
    """Yield a family's candidates; one that fails ends them: the verdict stands without a cause."""
    with suppress(ArithmeticError, LookupError, TypeError, ValueError):
        yield from family(trial.flows[side], trial.flows[1 - side])


def _of_gradients(trial: Trial) -> Cause | None:
    """Try causes that show in gradients alone: the whole backward pass is run with each."""
    for side in range(len(SIDES)):
        for candidate in propose_gradients(trial.flows[side], trial.flows[1 - side]):
            if trial.is_over:
                return None
            if trial.gradients_agree(side, candidate.edits):
                return _confirmed(candidate, "")
    return None


def _stopped(checker: Checker, wrong: Finding, inputs: tuple[Inputs, Inputs]) -> Cause:
    """Guess that a parameter's own gradient is stopped: no operation shows it."""
    factors = checker.weights(wrong.seed)
    left = checker.left.run(inputs[0], wrong.training, factors[0]).gradients
    right = checker.right.run(inputs[1], wrong.training, factors[1]).gradients
    mapped = checker.mapping.sums_to_left(right)
    sizes = [float(np.abs(side.get(wrong.name, np.zeros(1))).sum()) for side in (left, mapped)]
    less = SIDES[int(sizes[1] < sizes[0])]
    words = (
        f"gives {wrong.name} no gradient (detach, stop_gradient, requires_grad=False)"
        if min(sizes) == 0
        else f"perhaps stops the gradient of {wrong.name} where it is used (detach, stop_gradient)"
    )
    return Cause("stop gradient", f"{less} {words}", False)


def _confirmed(candidate: Candidate, where: str) -> Cause:
    remedy = f"{candidate.difference}; with {candidate.remedy} the two are the same{where}"
    return Cause(candidate.name, with_row(candidate.name, remedy), True)


def _guessed(candidate: Candidate, trial: Trial) -> Cause:
    remedy = f"{candidate.difference}; with {candidate.remedy} this place agrees, but not all that follows"
    name = _name_elsewhere(candidate.name, trial)
    return Cause(name, with_row(name, remedy), False)


def _name_elsewhere(name: str, trial: Trial) -> str:
    """Name the cause of what both sides have, but not in the same place."""
    mapping = trial.checker.mapping
    if name == "missing norm" and mapping.is_used.all() and (mapping.source >= 0).all():
        return "pre-norm or post-norm"
    return "dropout place" if name == "dropout scale" else name
