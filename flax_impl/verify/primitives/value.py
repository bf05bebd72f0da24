"""A value of a JAX function that is evaluated."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from flax_impl.device import PyTree


@dataclass
class Value:
    """A value, the place of its result, and the numbers of its elements if it shows parameters."""

    array: PyTree
    place: int = -1
    elements: np.ndarray | None = None
    computed: np.ndarray | None = None  # the same of a matrix that is made of parameters
    register: int = -1  # in the program that is recorded
    dtype: str = ""  # of a constant in float32, before it was lifted

    @property
    def matrix(self) -> np.ndarray | None:
        """Numbers of its elements if it is used as a matrix."""
        return self.computed if self.elements is None else self.elements


def is_traced(values: Sequence[Value]) -> bool:
    """True if a value is not known, since JAX traces or differentiates a function of it."""
    return any(isinstance(value.array, jax.core.Tracer) for value in values)


def is_number(value: Value) -> bool:
    """True for a scalar that no operation has computed."""
    array = value.array
    return (
        value.place < 0
        and not isinstance(array, jax.core.Tracer)
        and np.ndim(array) == 0
        and not jnp.issubdtype(getattr(array, "dtype", np.float64), jax.dtypes.prng_key)
    )
