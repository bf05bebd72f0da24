"""Random numbers that a model draws by itself, replaced by constants while it is compared."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import nan, prod
from operator import neg, sub
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from flax_impl.device import PyTree
from flax_impl.randomness import SHARED
from flax_impl.verify.primitives.evaluation import lifted, traced
from flax_impl.verify.primitives.neutral import OTHER_RANDOM, RANDOM
from flax_impl.verify.primitives.origin import layer_of
from pipeline.run.recording.step_observer import LayerDraw

Known = Mapping[Any, float]  # values of scalars that depend on no input
# Operations on scalars from which rates are made.
SCALARS: dict[str, Callable[..., float]] = {
    "convert_element_type": float, "reshard": float, "stop_gradient": float, "sub": sub, "neg": neg,
}  # fmt: skip


def call_without_draws(
    call: Callable[[PyTree, PyTree], PyTree],
    variables: PyTree,
    inputs: PyTree,
    lifts: bool,
    is_shared: bool,
) -> tuple[PyTree, list[LayerDraw], str]:
    """Call a model with constants in place of random numbers; return its result and what it draws.

    A mask of dropout keeps all, so that it scales by 1 / (1 - rate). Constants, and float64 in place of
    float32 inside the model, come with `lifts` alone. With `is_shared` the masks of `flax_impl.randomness`
    are those of torch, and no draws. The third result is the first layer that makes float32 in spite of
    float64 inputs.
    """
    closed, shape = traced(call, variables, inputs)
    draws = [draw for draw in _draws(closed, {}, "", 1) if not (is_shared and SHARED in draw.layer)]
    if lifts:
        return lifted(call)(variables, inputs), draws, _narrow_layer(closed)
    leaves = jax.tree.leaves((variables, inputs))
    results = jax.core.eval_jaxpr(closed.jaxpr, closed.consts, *leaves)
    return jax.tree.unflatten(jax.tree.structure(shape), results), draws, ""


def lifted_call(apply_fn: Callable) -> Callable:
    """Return `apply_fn(variables, *inputs)` in float64 throughout.

    Only here: torch's operations are replaced while they are called.
    """
    call = lifted(lambda variables, inputs: apply_fn(variables, *inputs))
    return lambda variables, *inputs: call(variables, inputs)


def _draws(closed: ClosedJaxpr, known: Known, layer: str, times: int) -> Iterator[LayerDraw]:
    """Yield the random draws of a function that is executed so many times."""
    known = dict(known)
    for eqn in closed.jaxpr.eqns:
        name, here = eqn.primitive.name, layer_of(layer, str(eqn.source_info.name_stack), "")
        numbers = [_number(atom, known) for atom in eqn.invars]
        if name in SCALARS and None not in numbers:
            known[eqn.outvars[0]] = SCALARS[name](*numbers)
        size = prod(getattr(eqn.outvars[-1].aval, "shape", ())) * times
        called = str(eqn.params.get("name", ""))
        if called in RANDOM and any("key<" in str(atom.aval) for atom in eqn.invars):
            kind, _ = RANDOM[called]
            rate = next((number for number in numbers if number is not None), nan)
            yield LayerDraw(kind, rate if kind == "bernoulli" else 0.5, size, here)
        elif name in OTHER_RANDOM:
            yield LayerDraw(name, 0.0, size, here)
        else:
            again = times * eqn.params["length"] if name == "scan" else times
            for function in _functions(eqn):
                pairs = zip(function.jaxpr.invars, numbers, strict=False)
                inside = {variable: number for variable, number in pairs if number is not None}
                yield from _draws(function, inside, here, again)


def _narrow_layer(closed: ClosedJaxpr) -> str:
    def has(variables: Sequence[Any], dtype: type) -> bool:
        return any(getattr(variable.aval, "dtype", None) == dtype for variable in variables)

    if not has(closed.jaxpr.invars, np.float64):
        return ""  # traced in float32
    for eqn in closed.jaxpr.eqns:
        if has(eqn.outvars, np.float32):
            return layer_of("", str(eqn.source_info.name_stack), "")
    return ""


def _functions(eqn: JaxprEqn) -> Iterator[ClosedJaxpr]:
    """Yield the functions among the arguments of a primitive."""
    for value in eqn.params.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            if isinstance(each, ClosedJaxpr):
                yield each
            elif isinstance(each, Jaxpr):
                yield ClosedJaxpr(each, ())


def _number(atom: Any, known: Known) -> float | None:
    """Return the value of a scalar, if it is known."""
    if isinstance(atom, Literal):
        is_scalar = not getattr(atom.aval, "shape", ()) and "f" in str(atom.aval)
        return float(atom.val) if is_scalar else None
    return known.get(atom)
