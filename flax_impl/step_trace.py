"""Trace of a training step: inputs and outputs of modules, gradients, and the state after it."""

from collections.abc import Callable, Mapping
from functools import partial

import flax.linen as nn
import jax
import numpy as np

from flax_impl.data import Samples
from flax_impl.device import PyTree
from flax_impl.layers import Layout
from flax_impl.state import to_canonical, to_portable
from flax_impl.step import (
    MicroBatch,
    StepContext,
    StepInputs,
    TrainState,
    accumulate_gradients,
    loss,
    update,
)
from pipeline.data.batch_plan import BatchPlan
from pipeline.run.step_observer import Observer, Trace


class Watch:
    """Records the inputs and outputs of all modules of a model in training, in the order of execution.

    Inside a compiled step they are tracers, which `_observe_loss` returns. `names` has the modules that
    are called otherwise.
    """

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names
        self.seen: dict[str, jax.Array] = {}
        self.order: list[str] = []  # a compiled step returns sorted dictionaries

    def intercept(
        self, call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext
    ) -> object:
        """Wrap a method of a module, for `nn.intercept_methods`."""
        name = ".".join(context.module.path)
        if context.method_name != "__call__" or not name or not args:
            return call(*args, **kwargs)
        name = self.names.get(name, name)
        count = 1
        while (called := name if count == 1 else f"{name}#{count}") + " input" in self.seen:
            count += 1
        self.seen[f"{called} input"] = args[0]
        output = call(*args, **kwargs)
        if isinstance(output, jax.Array):
            self.seen[f"{called} output"] = output
        return output


class Watched:
    """A training step, compiled from `observe_step` with the same watch, that shows its steps."""

    def __init__(
        self, step: Callable, watch: Watch, observer: Observer, layout: Layout, plan: BatchPlan
    ) -> None:
        self.step, self.watch, self.observer = step, watch, observer
        self.layout, self.plan = layout, plan

    def __call__(self, state: TrainState, *batches: object) -> tuple[TrainState, jax.Array]:
        """Take a step; return the state and the values of the plain one."""
        state, (values, seen) = self.step(state, *batches)
        self.last = values, seen
        return state, values

    def show_start(self, state: TrainState) -> None:
        """Show the run before its first step."""
        self.observer.stepped(Trace(int(state.step), to_portable(state, self.layout)))

    def show(self, state: TrainState, learning_rate: float) -> None:
        """Show the last step, the only one of its call, with its learning rate and the state after it."""
        values, seen = jax.tree.map(lambda array: np.asarray(array[0]), jax.device_get(self.last))
        grads, clipped = seen["gradients"]
        trace = Trace(
            step=int(state.step),
            batch=seen["batch"],
            forward={name: seen["forward"][name] for name in self.watch.order},
            values=values,
            terms=self.plan.terms(int(state.step) - 1),
            learning_rate=learning_rate,
            gradients=to_canonical(grads, self.layout),
            clipped=to_canonical(clipped, self.layout),
            state=to_portable(state, self.layout),
        )
        self.observer.stepped(trace)


def observe_step(
    watch: Watch, context: StepContext, samples: Samples, state: TrainState, inputs: StepInputs
) -> tuple[TrainState, tuple[jax.Array, dict[str, PyTree]]]:
    """Take one step; return its values and its trace."""
    observe_loss = partial(_observe_loss, watch)
    gradients, seen = accumulate_gradients(context, samples, state, inputs, observe_loss)
    state, values, clipped = update(context, state, gradients, inputs[-1])
    return state, (values, {**seen, "gradients": (gradients.grads, clipped)})


def _observe_loss(
    watch: Watch, context: StepContext, state: TrainState, part: MicroBatch, *arguments: PyTree
) -> tuple[jax.Array, tuple[jax.Array, PyTree, dict[str, PyTree]]]:
    """Compute `loss`; return the batch and the modules' inputs and outputs too."""
    watch.seen = {}
    with nn.intercept_methods(watch.intercept):
        mean, (values, batch_stats, _) = loss(context, state, part, *arguments)
    watch.order, forward = list(watch.seen), watch.seen
    return mean, (values, batch_stats, {"batch": part[1], "forward": forward})
