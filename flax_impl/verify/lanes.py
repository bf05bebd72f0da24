"""A JAX function run as its users would run it, in a precision, op by op or jitted."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import source_info_util
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from flax_impl.device import PyTree
from pipeline.config.train import Precision
from pipeline.storage.portable_state import Arrays
from pipeline.verify.sides.outputs import leaves
from pipeline.verify.sides.subject import Pass

MODES = ("JAX op by op", "JAX jitted")
DTYPES = {
    Precision.fp64: jnp.float64,
    Precision.fp32: jnp.float32,
    Precision.bf16: jnp.bfloat16,
}
NARROW = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(jnp.bfloat16))


def run_lane(
    apply: Callable[[PyTree, PyTree], PyTree],
    arrays: tuple[Arrays, Arrays],
    inputs: Arrays,
    weights: Arrays,
    precision: Precision,
    compiled: bool,
) -> Pass:
    """Run a function forward and backward; `arrays` are those with gradients, and the others.

    `apply(arrays, inputs)` returns the output.
    """

    def forward(trained: PyTree, fixed: PyTree, inputs: PyTree) -> PyTree:
        """Return the outputs that have weights, and the others."""
        output = apply({**trained, **fixed}, inputs)
        found = dict(leaves(output, lambda leaf: isinstance(leaf, jax.Array)))
        used = {path: leaf for path, leaf in found.items() if path in weights and _is_float(leaf)}
        return used, {path: leaf for path, leaf in found.items() if path not in used}

    def run(trained: PyTree, fixed: PyTree, inputs: PyTree, weights: PyTree) -> PyTree:
        used, pull, others = jax.vjp(
            lambda held: forward(held, fixed, inputs), trained, has_aux=True
        )
        (gradients,) = pull({path: weights[path].astype(leaf.dtype) for path, leaf in used.items()})
        return used | others, gradients

    # Users of narrower types have JAX's own defaults, under which a new array is float32.
    with jax.enable_x64(precision is Precision.fp64):
        trained, fixed, given = (_cast(held, precision) for held in (*arrays, inputs))
        factors = {path: jnp.asarray(weight) for path, weight in weights.items()}
        narrow = ""
        if precision is Precision.fp64 and not compiled:
            narrow = _find_narrow(jax.make_jaxpr(forward)(trained, fixed, given).jaxpr)
        with nullcontext() if compiled else jax.disable_jit():
            outputs, gradients = (jax.jit(run) if compiled else run)(trained, fixed, given, factors)
        results, gradients = _numpy(outputs), _numpy(gradients)
    loss = sum(float((results[path] * weights[path]).sum()) for path in weights if path in results)
    return Pass(loss, gradients, results, narrow=narrow)


def _find_narrow(jaxpr: Jaxpr) -> str:
    """Return the first operation that computes in less than float64, by its module or line."""
    for eqn in _equations(jaxpr):
        for result in eqn.outvars:
            dtype = getattr(result.aval, "dtype", None)
            if dtype in NARROW:
                path = str(eqn.source_info.name_stack).replace("/", ".")
                place = path or source_info_util.summarize(eqn.source_info)
                return f"{dtype} in {place}" if place else str(dtype)
    return ""


def _equations(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """Yield the equations that compute, those of inner functions in their place."""
    for eqn in jaxpr.eqns:
        inner = False
        for parameter in eqn.params.values():
            for value in parameter if isinstance(parameter, list | tuple) else (parameter,):
                if isinstance(value, ClosedJaxpr):
                    value = value.jaxpr
                if isinstance(value, Jaxpr):
                    inner = True
                    yield from _equations(value)
        if not inner:
            yield eqn


def _is_float(leaf: PyTree) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _cast(arrays: Arrays, precision: Precision) -> dict[str, jax.Array]:
    dtype = DTYPES[precision]
    return {n: jnp.asarray(a, dtype if _is_float(a) else None) for n, a in arrays.items()}


def _numpy(arrays: Mapping[str, PyTree]) -> Arrays:
    return {
        name: np.asarray(array).astype(np.float64) if _is_float(array) else np.asarray(array)
        for name, array in arrays.items()
    }
