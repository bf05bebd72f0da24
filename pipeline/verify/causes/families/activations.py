"""Causes: another function of the same value."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice

import numpy as np

from pipeline.verify.causes.candidate import Candidate, spread
from pipeline.verify.causes.flow import Flow
from pipeline.verify.causes.words import at
from pipeline.verify.replay.activations import ACTIVATIONS
from pipeline.verify.replay.functions import FUNCTIONS
from pipeline.verify.replay.namespace import NUMPY
from pipeline.verify.sides.subject import Edit
from pipeline.verify.trace.fingerprints import Fingerprint, distance, fingerprint

# What is tried: a function's name and its arguments.
Choice = tuple[str, tuple[object, ...]]
SLOPES = (0.01, 0.1, 0.2, 0.3, 0.25, 0.05)
ALPHAS = (1.0, 0.5, 0.1, 2.0)

WORDS = {
    "gelu": "the exact GELU (erf)", "gelu_tanh": "GELU's tanh approximation",
    "quick_gelu": "x·sigmoid(1.702x)",
    "silu": "SiLU", "relu": "ReLU", "relu6": "ReLU6", "elu": "ELU", "selu": "SELU", "celu": "CELU",
    "leaky_relu": "leaky ReLU", "identity": "nothing",
}  # fmt: skip
WRITE = {
    "gelu": "the exact GELU (approximate=False, in torch approximate='none')",
    "gelu_tanh": "GELU's tanh approximation (approximate=True, in torch approximate='tanh')",
}
GELUS = {"gelu", "gelu_tanh", "quick_gelu"}


def propose_functions(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose the other side's function of a value where ours has another one."""
    for is_known, candidate in _functions(ours, theirs):
        if not is_known:
            continue
        yield candidate
        # Several at once: the gates of a recurrent layer.
        limit = ours.rank[ours.end]
        more = [e for e in spread(ours, candidate.edits, True) if ours.rank[e[0].op] <= limit]
        if more:
            edits = (*candidate.edits, *(edit for each in more for edit in each))
            yield replace(candidate, edits=edits)


def propose_unknown_functions(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """The same where ours is none of the known functions."""
    found = (candidate for is_known, candidate in _functions(ours, theirs) if not is_known)
    yield from islice(found, 12)


def propose_function_moves(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose that the other side applies a function of ours behind the next layer."""
    del theirs
    for place in ours.region:
        for source in ours.sources(place)[-1:]:
            if ours.only_moves(place) or not ours.is_pure(ours.between(source, place)):
                continue
            print_, known = ours.ops[place].fingerprint, images(ours, source, set())
            own = next((choice for choice, image in known.items() if is_same(image, print_)), None)
            if own is None or own[0] in ("softmax", "log_softmax"):
                continue
            skip = Edit(place, function="identity", inputs=(source,))
            for target in ours.layer_ends(place)[:3]:
                edits = (skip, Edit(target, function=own[0], arguments=own[1]))
                difference = (
                    f"{ours.name} applies {words(own)} before the layer {ours.layer(target)}, the other "
                    "side after it"
                )
                remedy = f"it behind that layer on the {ours.name}"
                yield Candidate("activation order", edits, difference, remedy, until=target)


def _functions(ours: Flow, theirs: Flow) -> Iterator[tuple[bool, Candidate]]:
    known: dict[int, Mapping[Choice, Fingerprint]] = {}
    places = [place for place in ours.region[::-1] if not ours.ops[place].only_moves]
    pairs = [(place, source) for place in places for source in ours.sources(place)[:8]]
    pairs = [(p, s) for p, s in pairs if ours.is_pure(ours.between(s, p))]
    for place, source in pairs:
        if source not in known:
            known[source] = images(ours, source, numbers_near(ours) | numbers_near(theirs))
        print_ = ours.ops[place].fingerprint
        own = next((c for c, image in known[source].items() if is_same(image, print_)), None)
        for choice, image in known[source].items():
            hits = [p for p in theirs.find(image) if theirs.found[p] == 0]
            if not hits or choice == own:
                continue
            candidate = _candidate(ours, theirs, (place, source, hits[0]), own, choice)
            yield own is not None, candidate
        before = ours.ops[source].fingerprint
        if own and before is not None and (hits := theirs.find(before)):
            yield True, _candidate(ours, theirs, (place, source, hits[0]), own, ("identity", ()))


def images(flow: Flow, source: int, numbers: set[float]) -> Mapping[Choice, Fingerprint]:
    """Return the fingerprints of all functions of a result."""
    if flow.ops[source].fingerprint is None:
        return {}
    x, found = flow.value(source), {}
    with np.errstate(all="ignore"):
        for name, arguments in choices(x.ndim, numbers):
            found[name, arguments] = fingerprint(FUNCTIONS[name](NUMPY, x, *arguments))
    return {choice: image for choice, image in found.items() if np.isfinite(image).all()}


def choices(axes: int, numbers: set[float]) -> Iterator[Choice]:
    """Yield the functions that are tried."""
    small = sorted({abs(n) for n in numbers if 0 < abs(n) < 1})
    for name in ACTIVATIONS:
        if name == "leaky_relu":
            yield from ((name, (slope,)) for slope in dict.fromkeys((*SLOPES, *small)))
        elif name in ("elu", "celu"):
            yield from ((name, (alpha,)) for alpha in dict.fromkeys((*ALPHAS, *small)))
        else:
            yield name, ()
    for axis in range(-1, -axes - 1, -1):
        yield "softmax", (axis,)
        yield "log_softmax", (axis,)


def numbers_near(flow: Flow) -> set[float]:
    """Return the numbers among the arguments of a region's operations."""
    return {number for place in flow.surroundings for number in flow.ops[place].numbers}


def is_same(left: Fingerprint, right: Fingerprint | None) -> bool:
    """True for the fingerprints of two equal results."""
    return right is not None and distance(left, right) < 1e-9


def _candidate(
    ours: Flow, theirs: Flow, places: tuple[int, int, int], own: Choice | None, new: Choice
) -> Candidate:
    place, source, other = places
    edit = Edit(place, function=new[0], inputs=(source,), arguments=new[1])
    mine = words(own) if own else "another function"
    difference = f"{at(ours, place)} computes {mine}, {at(theirs, other)} {words(new)}"
    remedy = f"{WRITE.get(new[0], words(new))} on the {ours.name}"
    if new[0] == "identity":
        difference = f"{at(ours, place)} computes {mine}, which {theirs.name} lacks"
        remedy = f"it left out on the {ours.name}"
    return Candidate(_name(own, new), (edit,), difference, remedy)


def _name(own: Choice | None, new: Choice) -> str:
    kinds = {choice[0] for choice in (own, new) if choice}
    if "identity" in kinds:
        return "missing softmax" if kinds & {"softmax", "log_softmax"} else "missing activation"
    if kinds <= GELUS and kinds == {"gelu", "gelu_tanh"}:
        return "GELU exact or tanh"
    if kinds == {"leaky_relu"}:
        return "negative slope"
    if kinds <= {"softmax", "log_softmax"}:
        return "softmax axis" if len(kinds) == 1 else "softmax or log-softmax"
    if kinds in ({"elu"}, {"celu"}, {"elu", "celu"}):
        return "alpha"
    return "activation"


def words(choice: Choice) -> str:
    """Name a function with its arguments."""
    name, arguments = choice
    if name in ("softmax", "log_softmax"):
        return f"{name.replace('_', '-')} over axis {arguments[0]}"
    text = WORDS.get(name, name.replace("_", " "))
    return f"{text} with {arguments[0]:g}" if arguments else text
