"""Arrays of a pass as JAX has them."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from flax_impl.device import PyTree
from pipeline.storage.portable_state import Arrays
from pipeline.verify.replay.program import Source
from pipeline.verify.sides.subject import Inputs


def to_native(inputs: Inputs) -> dict[str, jax.Array]:
    """Inputs as arrays: floats in float64, integers in int32, as models of JAX expect them."""
    found = {}
    for name, array in inputs.items():
        if np.issubdtype(array.dtype, np.floating):
            found[name] = jnp.asarray(array, jnp.float64)
        else:
            found[name] = jnp.asarray(array, array.dtype if array.dtype == bool else jnp.int32)
    return found


def sources(arrays: Mapping[str, PyTree], given: Mapping[str, PyTree]) -> dict[Source, PyTree]:
    """Return what a recorded pass starts from."""
    found = {("parameter", name): array for name, array in arrays.items()}
    return found | {("input", name): array for name, array in given.items()}


def weighted(outputs: Mapping[str, PyTree], weights: Mapping[str, np.ndarray]) -> jax.Array:
    """Return the sum of the outputs, each times its weights."""
    parts = [jnp.sum(outputs[path] * weight) for path, weight in weights.items()]
    return jnp.stack(parts).sum()


def numpy_of(arrays: Mapping[str, PyTree]) -> Arrays:
    """Return arrays as NumPy's."""
    return {name: np.asarray(array) for name, array in arrays.items()}
