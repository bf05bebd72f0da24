"""Functions that are evaluated one primitive at a time."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from flax_impl.device import PyTree
from flax_impl.verify.primitives.neutral import Neutral
from flax_impl.verify.primitives.precision import narrowed
from flax_impl.verify.primitives.value import Value
from pipeline.verify.sides.subject import MIDDLE


def traced(
    function: Callable[..., PyTree], arrays: PyTree, inputs: PyTree
) -> tuple[ClosedJaxpr, PyTree]:
    """Return the jaxpr of `function(arrays, inputs)`, and the shapes of its results.

    A model that mixes float64 with its own float32, such as the carry of a scan, is traced in float32: it
    is lifted when it is evaluated.
    """
    trace = jax.make_jaxpr(function, return_shape=True)
    try:
        return trace(arrays, inputs)
    except TypeError:
        return trace(narrowed(arrays), narrowed(inputs))


def lifted(
    function: Callable[..., PyTree], nudge: float = 0.0, uniform: float = MIDDLE
) -> Callable[..., PyTree]:
    """Return `function(arrays, inputs)` in float64 throughout, with constants in place of random numbers."""

    def call(arrays: PyTree, inputs: PyTree) -> PyTree:
        closed, shape = traced(function, arrays, inputs)
        neutral = Neutral(nudge, uniform)
        args = [Value(leaf) for leaf in jax.tree.leaves((arrays, inputs))]
        consts = neutral.constants(closed.consts)
        results = neutral.evaluate(closed.jaxpr, consts, args)
        return jax.tree.unflatten(jax.tree.structure(shape), [r.array for r in results])

    return call


def by_primitives(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """Return a function that is evaluated one primitive at a time, mostly by NumPy.

    To compile a model with its gradients for a few calls would take by far the most of their time.
    """
    traced: dict[object, tuple[ClosedJaxpr, PyTree]] = {}

    def call(*args: PyTree) -> PyTree:
        leaves, tree = jax.tree.flatten(args)
        key = (
            tree,
            *((np.shape(leaf), str(getattr(leaf, "dtype", type(leaf)))) for leaf in leaves),
        )
        if key not in traced:
            closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
            traced[key] = closed, jax.tree.structure(shape)
        closed, structure = traced[key]
        values = [Value(_by_numpy(leaf)) for leaf in leaves]
        consts = [Value(_by_numpy(const)) for const in closed.consts]
        results = Neutral().evaluate(closed.jaxpr, consts, values)
        return jax.tree.unflatten(structure, [result.array for result in results])

    return call


def _by_numpy(array: PyTree) -> PyTree:
    is_key = jnp.issubdtype(getattr(array, "dtype", np.float64), jax.dtypes.prng_key)
    return array if is_key else np.asarray(array)
