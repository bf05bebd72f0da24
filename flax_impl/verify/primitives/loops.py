"""Loops and branches of JAX, traced anew in float64."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn

from flax_impl.device import PyTree

Evaluate = Callable[[Any, Sequence[PyTree]], list[PyTree]]  # of a jaxpr and its arguments


def retrace(eqn: JaxprEqn, arrays: Sequence[PyTree], evaluate: Evaluate) -> Sequence[PyTree]:
    """Return the results of a `scan`, `while` or `cond` whose functions are evaluated by `evaluate`."""
    return {"scan": _scan, "while": _while, "cond": _cond}[eqn.primitive.name](
        eqn.params, arrays, evaluate
    )


def _cond(params: Any, arrays: Sequence[PyTree], evaluate: Evaluate) -> Sequence[PyTree]:
    branches = [partial(_branch, branch, evaluate) for branch in params["branches"]]
    return jax.lax.switch(arrays[0], branches, *arrays[1:])


def _branch(jaxpr: Any, evaluate: Evaluate, *arrays: PyTree) -> list[PyTree]:
    return evaluate(jaxpr, arrays)


def _while(params: Any, arrays: Sequence[PyTree], evaluate: Evaluate) -> Sequence[PyTree]:
    test = params["cond_nconsts"]
    body = test + params["body_nconsts"]
    return jax.lax.while_loop(
        lambda carry: evaluate(params["cond_jaxpr"], [*arrays[:test], *carry])[0],
        lambda carry: evaluate(params["body_jaxpr"], [*arrays[test:body], *carry]),
        [jnp.asarray(array) for array in arrays[body:]],
    )


def scan_counts(params: Any) -> tuple[int, int]:
    """Return how many operands of a scan are constants, and how many the carry."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    constants, carry, _ = params["ft_in"].unpack()  # JAX 0.12 and newer
    return len(constants), len(carry)


def _scan(params: Any, arrays: Sequence[PyTree], evaluate: Evaluate) -> Sequence[PyTree]:
    fixed, count = scan_counts(params)

    def step(carry: list[PyTree], row: list[PyTree]) -> tuple[list[PyTree], list[PyTree]]:
        found = evaluate(params["jaxpr"], [*arrays[:fixed], *carry, *row])
        return found[:count], found[count:]

    first = [jnp.asarray(array) for array in arrays[fixed : fixed + count]]
    rows = list(arrays[fixed + count :])
    last, stacked = jax.lax.scan(step, first, rows, params["length"], params["reverse"])
    return [*last, *stacked]
