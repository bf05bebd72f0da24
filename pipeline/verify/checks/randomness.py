"""Random numbers of a model: none in evaluation, comparable ones in training."""

from collections import Counter
from itertools import zip_longest

import numpy as np

from pipeline.errors import UserError
from pipeline.verify.sides.subject import Inputs, Subject
from pipeline.verify.trace.graph import Draw, Op, Trace, ancestors
from pipeline.verify.verdict import First, Part

KNOWN = (
    "bernoulli",
    "normal",
    "uniform",
    "exponential",
)  # constants take their place on both sides
SIDES = ("left", "right")
LOWEST = 1e-9  # a uniform random number close to none

Rates = Counter[tuple[str, float]]  # draws by kind and probability


def unrepeatable(side: str, subject: Subject, inputs: Inputs) -> str:
    """Return why a model is not deterministic in evaluation mode; nothing if it is.

    Raises:
        UserError: an output is not finite.
    """
    first, again = subject.trace(inputs, False), subject.trace(inputs, False)
    start = f"{side} is not deterministic in evaluation mode"
    if first.draws:
        draw = first.draws[0]
        return f"{start}: {place_of(first, draw)} draws random numbers ({draw.kind})"
    for path, array in first.outputs.items():
        if not np.isfinite(array).all():
            bad = next((op for op in first.ops if not _is_finite(op)), first.ops[-1])
            problem = f"its output {path} is not finite; the first such result is in {_name(bad)}"
            raise UserError(side, subject.description.kind, problem=problem)
    for op, other in zip_longest(first.ops, again.ops):
        if op is None or other is None or op.fingerprint is None or other.fingerprint is None:
            continue
        # Bit for bit: a mask of the largest negative numbers has no finite fingerprint.
        if not np.array_equal(op.fingerprint, other.fingerprint, equal_nan=True):
            return f"{start}: results of {_name(op)} change from call to call"
    return ""


def unknown_draws(traces: tuple[Trace, Trace]) -> str:
    """Return why random numbers in training cannot be made the same on both sides; nothing if they can."""
    for side, trace in zip(SIDES, traces, strict=True):
        for draw in trace.draws:
            if draw.kind not in KNOWN:
                return (
                    f"{side} draws random numbers ({draw.kind}) in {place_of(trace, draw)}, "
                    "which cannot be made the same on both sides"
                )
    return ""


def unfollowed(side: str, subject: Subject, inputs: Inputs, trace: Trace) -> str:
    """Return which random numbers of a model in training cannot be followed; nothing if all can.

    Those of Python and NumPy, and those that choose which code runs, such as a layer to be dropped.
    """
    again = subject.trace(inputs, True)
    if not _is_same(trace, again):
        return f"{side} changes from call to call in training: it draws random numbers by itself"
    leading = ancestors(trace.ops, trace.results.values())
    loose = [draw for draw in trace.draws if draw.kind == "uniform" and draw.op not in leading]
    for uniform in (LOWEST, 1 - LOWEST) if loose else ():
        subject.vary(uniform=uniform)
        other = subject.trace(inputs, True)
        subject.vary()
        if len(other.ops) != len(trace.ops):
            place = place_of(trace, loose[0])
            return f"{side} draws random numbers in {place} that choose which code runs"
    return ""


def _is_same(one: Trace, other: Trace) -> bool:
    return len(one.ops) == len(other.ops) and all(
        np.array_equal(array, other.outputs[path], equal_nan=True)
        for path, array in one.outputs.items()
    )


def rates(trace: Trace) -> Rates:
    """Count the random draws that lead to an output by kind and probability.

    A mask that keeps everything counts for nothing.
    """
    leading = ancestors(trace.ops, trace.results.values())
    kept = [
        draw
        for draw in trace.draws
        if draw.op in leading and (draw.kind != "bernoulli" or 0 < draw.number < 1)
    ]
    return Counter((draw.kind, round(draw.number, 12)) for draw in kept)


def describe(counted: Rates) -> str:
    """Describe draws: `3 of rate 0.1`."""
    words = [
        f"{count} of rate {1 - number:.3g}" if kind == "bernoulli" else f"{count} {kind}"
        for (kind, number), count in sorted(counted.items())
    ]
    return ", ".join(words) or "none"


def first_other_rate(traces: tuple[Trace, Trace]) -> First | None:
    """Return the first draw with a probability that the other side never uses."""
    counted = [rates(trace) for trace in traces]
    odd = set(counted[0]) ^ set(counted[1])
    if not odd:
        return None
    found = [[draw for draw in trace.draws if _key(draw) in odd] for trace in traces]
    left, right = (
        place_of(trace, draws[0]) if draws else "nowhere"
        for trace, draws in zip(traces, found, strict=True)
    )
    numbers = [draws[0].number if draws else 1.0 for draws in found]
    return First(Part.training, left, right, abs(numbers[0] - numbers[1]))


def place_of(trace: Trace, draw: Draw) -> str:
    """Return the layer that draws, or its line of code."""
    return _name(trace.ops[min(draw.op, len(trace.ops) - 1)])


def _key(draw: Draw) -> tuple[str, float]:
    return draw.kind, round(draw.number, 12)


def _name(op: Op) -> str:
    return op.layer or op.source or op.name


def _is_finite(op: Op) -> bool:
    return op.fingerprint is None or bool(np.isfinite(op.fingerprint).all())
