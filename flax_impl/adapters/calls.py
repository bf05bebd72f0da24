"""Calls of the modules inside a model: shown to an observer, and whole where vmap has divided them."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap

# Takes the dotted path of a module, its call, and its arguments; returns what the call does.
Observe = Callable[[str, Callable, tuple, dict], Any]
_OBSERVE: ContextVar[Observe | None] = ContextVar("observe", default=None)
# True inside a function that is traced as a whole, and may be mapped over a batch afterwards.
IS_TRACED_FIRST: ContextVar[bool] = ContextVar("is_traced_first", default=False)


@contextmanager
def observing(observe: Observe) -> Generator[None]:
    """While active, show the calls of the modules inside an adapted model to `observe`."""
    token = _OBSERVE.set(observe)
    try:
        yield
    finally:
        _OBSERVE.reset(token)


def observed(path: str, call: Callable, args: tuple, kwargs: dict) -> Any:
    """Call a module, before the eyes of an observer if there is one."""
    observe = _OBSERVE.get()
    return observe(path, call, args, kwargs) if observe else call(*args, **kwargs)


def on_batch(
    function: Callable[[jax.Array], jax.Array], x: jax.Array, dtype: jnp.dtype
) -> jax.Array:
    """Apply a function to the array of which vmap has made `x` a sample: to the batch.

    The axes over which it is mapped come first. The function keeps the shape, and returns numbers of a
    `dtype`; their derivative is zero.
    """
    is_mapped = hasattr(x, "batch_dim")  # which a tracer of vmap has
    if not is_mapped and not IS_TRACED_FIRST.get():
        return function(x)

    @custom_vmap
    def call(x: jax.Array) -> jax.Array:
        return jnp.zeros(x.shape, dtype) if is_mapped else function(x)

    @call.def_vmap
    def call_on_batch(size: int, is_batched: list[bool], x: jax.Array) -> tuple[jax.Array, bool]:
        del size, is_batched
        return on_batch(function, x, dtype), True

    return call(jax.lax.stop_gradient(x))
