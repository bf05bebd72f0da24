"""Dropout layers of a user's own model, with the masks that torch's layers of the same names draw."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flax_impl.adapters.calls import observed, on_batch
from flax_impl.randomness import GENERATORS, draw_mask
from pipeline.config.train import Randomness
from pipeline.run.recording.step_observer import MASK, LayerDraw

INPUTS = ("x", "inputs")  # names of what a layer drops


@dataclass
class Masks:
    """Way in which layers draw: with `are_shared` by their names, as `train.randomness` says."""

    are_shared: bool = True
    drawn: dict[str, LayerDraw] = field(default_factory=dict)  # by the layer's name and call


_MASKS: ContextVar[Masks | None] = ContextVar("masks", default=None)


@contextmanager
def masks_of(masks: Masks) -> Generator[None]:
    """While active, draw as `masks` says, and note the masks in it."""
    token = _MASKS.set(masks)
    try:
        yield
    finally:
        _MASKS.reset(token)


class Layers:
    """The dropout layers in one call of a model: their names count their calls."""

    def __init__(self, key: jax.Array | None, is_last: bool) -> None:
        """Take the step's key; `is_last`: the channels of images are their last axis."""
        name = jax.random.key_impl(key) if key is not None else ""
        masks = _MASKS.get() or Masks()
        is_shared = str(name) == GENERATORS[Randomness.shared] and masks.are_shared
        self.key, self.is_last, self.masks = key if is_shared else None, is_last, masks
        self.calls: dict[str, int] = {}

    def around(self, rate_of: Callable[[Any, dict], float | None]) -> Callable:
        """Return what makes the calls of a model's layers; see `scopes.named`.

        `rate_of` returns the rate of a layer that drops in such a call.
        """

        def make_call(path: str, layer: Any, call: Callable, args: tuple, kwargs: dict) -> Any:
            plain = partial(call, layer)
            rate = None if self.key is None else rate_of(layer, kwargs)
            if rate is None:
                return observed(path, plain, args, kwargs)
            return observed(path, partial(self.drop, path, rate), args, kwargs)

        return make_call

    def drop(self, name: str, rate: float, *args: jax.Array, **kwargs: Any) -> jax.Array:
        """Zero numbers of a layer's input with probability `rate`, and scale the others."""
        x = jnp.asarray(args[0] if args else next(kwargs[n] for n in INPUTS if n in kwargs))
        if rate in (0, 1):
            return x if rate == 0 else jnp.zeros_like(x)
        count = self.calls[name] = self.calls.get(name, 0) + 1
        kept = on_batch(partial(self._kept, name, count, rate), x, jnp.dtype(bool))
        return jnp.where(kept, x / (1 - rate), jnp.zeros_like(x))

    def _kept(self, name: str, count: int, rate: float, x: jax.Array) -> jax.Array:
        """Return which numbers of a batch are kept."""
        called = name if count == 1 else f"{name}#{count}"
        self.masks.drawn[called] = LayerDraw(MASK, 1 - rate, x.size, called)
        is_turned = self.is_last and x.ndim == 4
        shape = (x.shape[0], x.shape[3], *x.shape[1:3]) if is_turned else x.shape
        assert self.key is not None
        kept = draw_mask(self.key, called, rate, shape)
        return jnp.moveaxis(kept, 1, -1) if is_turned else kept


def share_linen(
    layers: Layers, call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext
) -> object:
    """Call a method of a linen module, for `nn.intercept_methods`; a dropout draws as its name says."""
    layer = context.module
    if type(layer) is not nn.Dropout or context.method_name != "__call__" or layers.key is None:
        return call(*args, **kwargs)
    given = [kwargs.get("deterministic"), *args[1:2], layer.deterministic]
    is_still = next((value for value in given if value is not None), True)
    if is_still or layer.broadcast_dims or kwargs.get("rng") is not None or len(args) > 2:
        return call(*args, **kwargs)
    return layers.drop(".".join(layer.path), layer.rate, args[0] if args else kwargs["inputs"])
