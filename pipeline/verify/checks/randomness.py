"""Random numbers of a model: none in evaluation, comparable ones in training."""

from itertools import zip_longest

import numpy as np

from pipeline.verify.checks.draws import name_of, place_of
from pipeline.verify.checks.finite import require_finite
from pipeline.verify.sides.subject import Inputs, Subject
from pipeline.verify.trace.graph import Trace, ancestors
from pipeline.verify.verdict import SIDES

KNOWN = (
    "bernoulli",
    "normal",
    "uniform",
    "exponential",
)  # constants take their place on both sides
LOWEST = 1e-9  # a uniform random number close to none


def unrepeatable(side: str, subject: Subject, inputs: Inputs) -> str:
    """Return why a model is not deterministic in evaluation mode; nothing if it is.

    Raises:
        UserError: an output is not finite.
    """
    first, again = subject.trace(inputs, False), subject.trace(inputs, False)
    start = f"{side} is not deterministic in evaluation mode"
    leading = ancestors(first.ops, first.results.values())
    if draw := next((draw for draw in first.draws if draw.op in leading), None):
        return f"{start}: {place_of(first, draw)} draws random numbers ({draw.kind})"
    if place := _choice(subject, inputs, False, first):
        return f"{start}: {place} draws random numbers that choose which code runs"
    require_finite(side, subject, first, inputs, training=False)
    for op, other in zip_longest(first.ops, again.ops):
        if op is None or other is None or op.fingerprint is None or other.fingerprint is None:
            continue
        # Bit for bit: a mask of the largest negative numbers has no finite fingerprint.
        if not np.array_equal(op.fingerprint, other.fingerprint, equal_nan=True):
            return f"{start}: results of {name_of(op)} change from call to call"
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
    if place := _choice(subject, inputs, True, trace):
        return f"{side} draws random numbers in {place} that choose which code runs"
    return ""


def _choice(subject: Subject, inputs: Inputs, training: bool, trace: Trace) -> str:
    """Return where uniform random numbers choose which code runs, such as a layer to be dropped."""
    leading = ancestors(trace.ops, trace.results.values())
    loose = [draw for draw in trace.draws if draw.kind == "uniform" and draw.op not in leading]
    for uniform in (LOWEST, 1 - LOWEST) if loose else ():
        subject.vary(uniform=uniform)
        other = subject.trace(inputs, training)
        subject.vary()
        if len(other.ops) != len(trace.ops):
            return place_of(trace, loose[0])
    return ""


def _is_same(one: Trace, other: Trace) -> bool:
    return len(one.ops) == len(other.ops) and all(
        np.array_equal(array, other.outputs[path], equal_nan=True)
        for path, array in one.outputs.items()
    )
