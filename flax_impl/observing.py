"""A training step seen from inside: what modules take and give, gradients, and the state after it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from flax_impl.layers import Layout
from flax_impl.state import to_canonical, to_portable
from pipeline.observer import Trace


class Watch:
    """Notes the inputs and outputs of all modules of a model, in the order of execution.

    Inside a compiled step they are tracers: `seen` is to be returned from it.
    """

    def __init__(self) -> None:
        self.seen: dict[str, jax.Array] = {}
        self.order: list[str] = []  # a compiled step returns its dictionaries sorted

    def intercept(self, call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        """Around every call of a method, as `nn.intercept_methods` wants it."""
        name = ".".join(context.module.path)
        if context.method_name != "__call__" or not name or not args:
            return call(*args, **kwargs)
        name = self._again(name)
        self.seen[f"{name} input"] = args[0]
        output = call(*args, **kwargs)
        if isinstance(output, jax.Array):
            self.seen[f"{name} output"] = output
        return output

    def _again(self, name: str) -> str:
        count = 1
        while (called := name if count == 1 else f"{name}#{count}") + " input" in self.seen:
            count += 1
        return called


@contextmanager
def watching(watch: Watch | None) -> Iterator[dict[str, jax.Array]]:
    """What the modules called in the block take and give; nothing without a watch.

    Only here: torch's modules keep their hooks.
    """
    if watch is None:
        yield {}
        return
    watch.seen = {}
    with nn.intercept_methods(watch.intercept):
        yield watch.seen
    watch.order = list(watch.seen)
    watch.seen = {}


def start_of(state: Any, layout: Layout) -> Trace:
    """The run before its first step, as the core compares it."""
    return Trace(step=int(state.step), state=to_portable(state, layout))


def trace(
    watch: Watch,
    seen: dict[str, Any],
    state: Any,
    layout: Layout,
    values: jax.Array,
    learning_rate: float,
) -> Trace:
    """A step of one compiled call as the core compares it.

    Args:
        watch: that was on.
        seen: what the compiled step returned of it.
        state: `step.TrainState` after the update.
        layout: of the model.
        values: of the step `[1, values]`.
        learning_rate: of the update.
    """
    seen = jax.tree.map(lambda array: np.asarray(array[0]), jax.device_get(seen))
    (inputs, targets), (grads, clipped) = seen["batch"], seen["gradients"]
    return Trace(
        step=int(state.step),
        batch={"inputs": inputs, "targets": targets},
        forward={name: seen["forward"][name] for name in watch.order},
        values=np.asarray(values[0]),
        learning_rate=learning_rate,
        gradients=to_canonical(grads, layout),
        clipped=to_canonical(clipped, layout),
        state=to_portable(state, layout),
    )
