"""A model as a pure function of its arrays: what the adapters make of every kind."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax

from flax_impl.device import PyTree

# Options of a compiler whose programs run once: optimizing them takes longer than they do. For initial
# values only: at level 0, the gradient of a convolution below a maximum was off by as much as itself.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@dataclass(frozen=True)
class Function:
    """A model as a pure function.

    `apply(arrays, inputs, training)` returns the output and the buffers after the pass. Arrays are by
    name, inputs too. `key` for random numbers is the adapter's own: nothing depends on it.
    """

    kind: str
    arrays: Mapping[str, jax.Array]
    trained: frozenset[str]
    apply: Callable[[Mapping[str, PyTree], Mapping[str, PyTree], bool], tuple[PyTree, PyTree]]
    notes: tuple[str, ...] = ()
    root: str = ""  # scope that the model itself opens, around those of its layers


def bind(function: Callable, inputs: Mapping[str, PyTree]) -> tuple[tuple, dict]:
    """Return the inputs as arguments: by name where the function has all the names, else in order."""
    names = inspect.signature(function).parameters
    if all(name in names for name in inputs):
        return (), dict(inputs)
    return tuple(inputs.values()), {}


def evaluated(function: Callable[[], PyTree]) -> PyTree:
    """Return the arrays that a function makes, compiled as a whole if it can be: by far the fastest."""
    try:
        return jax.jit(function, compiler_options=QUICK)()
    except Exception:  # needs concrete values, or is the user's mistake, which is told from here
        return function()
