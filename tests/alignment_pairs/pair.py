"""A pair of models that compute the same, written in two styles."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
import numpy as np

from flax_impl.device import PyTree
from flax_impl.verify.adapters import equinox, functions, linen, nnx
from flax_impl.verify.native import to_native
from flax_impl.verify.subject import FunctionSubject
from lightning_impl.verify.subject import ModuleSubject
from pipeline.verify.sides.subject import Inputs, Subject

ADAPTERS = (linen, nnx, equinox, functions)
Shapes = Mapping[str, tuple[int, ...]]
Apply = Callable[[Mapping[str, jax.Array], jax.Array], jax.Array]


@dataclass(frozen=True)
class Pair:
    """Factories of both sides, and the shape of their input.

    `alone` are how many arrays each side has without a counterpart, `bar` is how far they may differ;
    `is_slow` is one that takes long to compile.
    """

    left: Callable[[], object]
    right: Callable[[], object]
    shape: tuple[int, ...]
    tokens: int = 0  # of a vocabulary; 0: the input is of floats
    alone: tuple[int, int] = (0, 0)
    bar: float = 1e-11
    is_slow: bool = False

    def inputs(self) -> Inputs:
        """Draw the input."""
        random = np.random.default_rng(0)
        if self.tokens:
            return {"x": random.integers(0, self.tokens, self.shape)}
        return {"x": random.standard_normal(self.shape)}


def subject(made: object, inputs: Inputs) -> Subject:
    """Open a model of any kind."""
    adapter = next((adapter for adapter in ADAPTERS if adapter.matches(made)), None)
    if adapter is None:
        return ModuleSubject(made, {})
    return FunctionSubject(adapter.adapt(made, to_native(inputs), {}))


def function(apply: Apply, **shapes: tuple[int, ...]) -> Callable[[], tuple[Callable, Apply]]:
    """Return the factory of a plain function of JAX whose parameters have these shapes."""

    def init() -> PyTree:
        random = np.random.default_rng(1)
        return {name: random.standard_normal(shape) for name, shape in shapes.items()}

    return lambda: (init, apply)
