"""Constants that a model holds in float32: tables of sines, masks, frequencies."""

from collections.abc import Collection, Sequence

import numpy as np

from pipeline.rng import generator
from pipeline.verify.trace.graph import Op, Trace

NARROW = ("float32", "float16", "bfloat16")
DIGITS = 7  # at least, of a number of float32 that was computed
UNIT = 2.0**-24  # half a unit in the last place of float32, relative


def nudged(values: np.ndarray, size: float) -> np.ndarray:
    """Return values moved by a fraction, each up or down; all arrays of a shape alike."""
    if not size:
        return values
    random = generator(0, "nudge", str(values.shape))
    return values * (1 + size * random.choice([-1.0, 1.0], values.shape))


def is_rounded(values: np.ndarray) -> bool:
    """Return True for numbers of float32 that are held in float64; not for round ones, such as 0.5."""
    with np.errstate(all="ignore"):
        fits, is_round = (np.array_equal(values, values.astype(t)) for t in ("float32", "float16"))
    return fits and not is_round


def is_rounded_number(number: float) -> bool:
    """Return True for a number of float32 that nobody has written: a root, not 0.1."""
    if np.float32(number) != number:
        return False
    digits = np.format_float_scientific(np.float32(number), trim="-").partition("e")[0]
    return len(digits.strip("-").replace(".", "")) >= DIGITS


def narrow_constants(trace: Trace, arrays: Collection[str] = ()) -> list[int]:
    """Return the places of the constants in float32, but for written numbers, and of the named arrays."""
    return [
        place
        for place, op in enumerate(trace.ops)
        if (op.name == "constant" and (op.dtype in NARROW if op.shape else _is_rounded_number(op)))
        or (op.name == "parameter" and op.layer in arrays)
    ]


def _is_rounded_number(op: Op) -> bool:
    return op.fingerprint is not None and is_rounded_number(float(op.fingerprint[1]))


def users(trace: Trace, places: Sequence[int]) -> list[str]:
    """Return the layers that first use these results, each once."""
    known, found = set(places), []
    for op in trace.ops:
        used = known & set(op.inputs)
        if used:
            known -= used
            found.append(op.layer or op.source or op.name)
    return list(dict.fromkeys(found))


def fixed_results(trace: Trace, arrays: Collection[str] = ()) -> tuple[set[int], set[int]]:
    """Return the places of results that no input or weight leads to, and those that float32 leads to.

    The named arrays are tables of the model, no weights.
    """
    narrow = set(narrow_constants(trace, arrays))
    fixed: set[int] = set()
    for place, op in enumerate(trace.ops):
        is_source = op.name in ("input", "parameter", "buffer") and place not in narrow
        if not is_source and fixed.issuperset(op.inputs):
            fixed.add(place)
            if not narrow.isdisjoint(op.inputs):
                narrow.add(place)
    return fixed, narrow & fixed
