"""Conversions to less than float64 inside a model, which the check itself computes in float64."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.verify.trace.graph import Trace, ancestors
from pipeline.verify.verdict import SIDES, Cause, First, Part

UNITS = {"bfloat16": 2.0**-8, "float16": 2.0**-11}  # rounding, relative


@dataclass(frozen=True)
class Conversion:
    """A conversion of what depends on an input."""

    dtype: str
    layer: str
    source: str

    @property
    def place(self) -> str:
        """The layer, or the line of code outside of all layers."""
        return self.layer or self.source or "the model itself"


def conversions(trace: Trace) -> list[Conversion]:
    """Return the conversions to narrower floats that lead to an output, in the order of execution."""
    leading = ancestors(trace.ops, trace.results.values())
    found = []
    for place, op in enumerate(trace.ops):
        asked = op.settings.get("dtype", op.settings.get("new_dtype", "")).removeprefix("torch.")
        # Integers and booleans have no fingerprint: a mask may become a float.
        floating = any(trace.ops[source].fingerprint is not None for source in op.inputs)
        if place in leading and floating and asked in ("float32", *UNITS):
            found.append(Conversion(asked, op.layer, op.source))
    return found


def first_half_precision(traces: tuple[Trace, Trace]) -> tuple[First, Cause] | None:
    """Return the first conversion to half precision of a kind that the other side never makes."""
    made = [[one for one in conversions(trace) if one.dtype in UNITS] for trace in traces]
    kinds = [{one.dtype for one in side} for side in made]
    odd = [next((one for one in side if one.dtype in kinds[0] ^ kinds[1]), None) for side in made]
    found = [(name, one) for name, one in zip(SIDES, odd, strict=True) if one]
    if not found:
        return None
    words = " and ".join(f"{name} computes in {one.dtype} in {one.place}" for name, one in found)
    remedy = f"{words}; in float64 throughout the two are the same"
    left, right = (one.place if one else "nowhere" for one in odd)
    size = max(UNITS[one.dtype] for _, one in found)
    sources = [one.source if one else "" for one in odd]
    first = First(Part.forward, left, right, size, 0, *sources)
    return first, Cause("precision", remedy, True)


def told(made: Sequence[Conversion]) -> str:
    """Return the types and the first layers of conversions, for a note; nothing if there are none."""
    words = []
    for dtype in sorted({one.dtype for one in made}):
        places = list(dict.fromkeys(one.place for one in made if one.dtype == dtype))
        more = f" and {len(places) - 2} more" if len(places) > 2 else ""
        words.append(f"{dtype} in {', '.join(places[:2])}{more}")
    return "; ".join(words)
