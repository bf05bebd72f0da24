"""Words for causes: layers, numbers and kinds of operations, for a person."""

import math
from collections.abc import Iterable

import numpy as np

from pipeline.verify.causes.flow import Flow

# Names of operations of all frameworks, by kind.
ROOTS = {"sqrt", "rsqrt"}
SOFTMAX = {"_softmax", "_safe_softmax", "_log_softmax", "exp", "log_softmax", "logsumexp"}
SELECTS = {"where", "select_n", "masked_fill", "masked_fill_"}
SUMS, PRODUCTS = {"add", "add_", "sub", "sub_"}, {"mul", "mul_", "div", "div_"}
WAVES = {"sin", "cos"}
PLAIN = SUMS | PRODUCTS | {"neg", "convert_element_type", "_to_copy", "broadcast_in_dim", "expand"}


def at(flow: Flow, place: int) -> str:
    """Name a side and a layer of it: `left in encoder.norm`, `right after mlp.up`."""
    return f"{flow.name} {flow.near(place)}"


def number(value: float) -> str:
    """Write a number, as a root or a fraction if that is shorter."""
    plain = f"{value:.6g}"
    if len(plain) <= 5 or "e" in plain:
        return plain
    for power, form in ((1, "{}"), (2, "√{}")):
        for inverse in (False, True):
            base = abs(1 / value if inverse else value) ** power if value else 0.0
            if 1 < base < 1e4 and math.isclose(base, round(base), rel_tol=1e-9):
                text = form.format(round(base))
                return ("-" if value < 0 else "") + (f"1/{text}" if inverse else text)
    return plain


def names_after(flow: Flow, place: int, hops: int = 4) -> set[str]:
    """Return the names of the next operations, through those that compute little."""
    names, pending = set(), {place}
    for _ in range(hops):
        pending = {c for other in pending for c in flow.consumers.get(other, ())}
        names |= {flow.ops[other].name for other in pending}
        names |= {"softmax" for other in pending if "softmax" in flow.ops[other].function}
        pending = {
            c for c in pending
            if c not in flow.uses_arrays
            and (flow.ops[c].name in PLAIN | SELECTS or flow.ops[c].only_moves
            or flow.ops[c].name in ("mean", "reduce_sum", "mm", "bmm", "dot_general"))
        }  # fmt: skip
    return names


def names_before(flow: Flow, place: int, hops: int = 4) -> set[str]:
    """Return the names of the operations that a result is made of."""
    names, pending = set(), {place}
    for _ in range(hops):
        pending = {other for at_ in pending for other in flow.ops[at_].inputs}
        names |= {flow.ops[other].name for other in pending}
    return names


def kind_of(flow: Flow, places: Iterable[int]) -> str:
    """Name what a group of operations is: `norm`, `dropout`, `residual`, …"""
    places = set(places)
    ops = [flow.ops[place] for place in places]
    names = {op.name for op in ops}
    if places & drawn(flow):
        return "dropout"
    if names & ROOTS and names & SUMS:
        return "norm"
    if names & SOFTMAX and any("softmax" in n for op in ops for n in (op.name, op.function)):
        return "softmax"
    if names & SELECTS:
        return "mask"
    real = [place for place in places if not flow.ops[place].only_moves]
    if len(real) == 1:
        op, place = flow.ops[real[0]], real[0]
        if op.name in SUMS and place in flow.uses_arrays:
            return "bias"
        if op.name in SUMS:
            return "residual" if sum(flow.depends[other] for other in op.inputs) > 1 else "summand"
        if op.name in PRODUCTS:
            return "scale" if place in flow.uses_arrays or len(op.inputs) == 1 else "product"
        return op.function.partition(".")[0] or op.name.strip("_")
    return "norm" if places & flow.uses_arrays else "operation"


def drawn(flow: Flow, kind: str = "") -> set[int]:
    """Return the places of random numbers, and where they first meet what depends on the inputs."""
    found: set[int] = set()
    pending = {draw.op for draw in flow.trace.draws if kind in ("", draw.kind)}
    while pending:
        found |= pending
        pending = {c for place in pending if not flow.depends[place]
                   for c in flow.consumers.get(place, ())} - found  # fmt: skip
    return found


def is_softmax(flow: Flow, place: int) -> bool:
    """True for the result of a softmax, perhaps in several operations."""
    op = flow.ops[place]
    if "softmax" in op.name or "softmax" in op.function:
        return "log" not in op.name
    if op.only_moves or op.name == "convert_element_type":
        return len(op.inputs) == 1 and is_softmax(flow, op.inputs[0])
    return op.name in ("div", "mul") and "exp" in {flow.ops[p].name for p in op.inputs}


def is_near(value: float, other: float) -> bool:
    """True for two numbers that are the same but for rounding."""
    return bool(np.isclose(value, other, rtol=1e-9, atol=0))
