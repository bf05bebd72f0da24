"""A number of the config in which runs that train at once differ, as the step of one takes it."""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from flax_impl.device import DType

Group = TypeVar("Group")


@dataclass(frozen=True, eq=False)
class Number:
    """A number that is computed with as that of a run alone: in double precision, while a step is traced.

    `of_runs` are those of all runs, float64, and `row` is the place of this one. Only here: torch computes
    with such numbers on the device, in double precision, too.
    """

    of_runs: np.ndarray
    row: jax.Array

    def __mul__(self, factor: float) -> "Number | float":
        return Number(self.of_runs * factor, self.row) if factor else 0.0

    def __truediv__(self, divisor: float) -> "Number":
        return Number(self.of_runs / divisor, self.row)

    def __rsub__(self, number: float) -> "Number":
        return Number(number - self.of_runs, self.row)

    def __round__(self) -> "Number":
        return Number(np.round(self.of_runs), self.row)


def typed(number: "Number | float", dtype: DType) -> jax.Array | float:
    """Return a number to compute with on the device: a Python number as it is."""
    if isinstance(number, Number):
        return jnp.asarray(number.of_runs.astype(dtype))[number.row]
    return number


def with_numbers(group: Group, numbers: Mapping[str, object]) -> Group:
    """Return a group of the config with other numbers by name, which are not checked: they may be traced."""
    own = copy(group)
    for name, number in numbers.items():
        setattr(own, name, number)
    return own
