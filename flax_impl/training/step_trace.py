"""Trace of a training step: inputs and outputs of modules, gradients, and the state after it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from flax_impl.adapters.calls import observing, on_batch
from flax_impl.adapters.dropout import Masks, masks_of
from flax_impl.data.samples import Samples
from flax_impl.device import PyTree
from flax_impl.layers import Layout
from flax_impl.state import to_canonical, to_portable
from flax_impl.training.step import (
    MicroBatch,
    StepContext,
    StepInputs,
    accumulate_gradients,
    forward,
    update,
)
from flax_impl.training.train_state import TrainState
from pipeline.config.experiment import Config
from pipeline.config.train import Precision, Randomness
from pipeline.data.batch_plan import BatchPlan
from pipeline.run.recording.step_observer import LayerDraw, Observer, Trace
from pipeline.verify.sides.outputs import leaves


class Watch:
    """Records the inputs and outputs of all modules of a model in training, in the order of execution.

    Inside a compiled step they are tracers, which `_observe_forward` returns. `names` has the modules that
    are called otherwise.
    """

    def __init__(self, names: Mapping[str, str], config: Config, compares: bool) -> None:
        self.names, self.config, self.compares = names, config, compares
        self.seen: dict[str, jax.Array] = {}
        self.order: list[str] = []  # a compiled step returns sorted dictionaries
        self.draws: list[LayerDraw] = []
        self.narrow = ""
        self.trace: object = None  # of the arrays to record, if not of all
        self.root = ""  # class of the model

    def apply(
        self, apply_fn: Callable, variables: PyTree, *inputs: jax.Array, **options: PyTree
    ) -> PyTree:
        """Call a model, if models are compared without random numbers of its own."""
        if not self.compares:
            return self._observed(apply_fn, variables, *inputs, **options)[0]

        from flax_impl.verify.primitives.draws import (
            call_without_draws,  # loads what other runs do not need
        )

        def call(variables: PyTree, inputs: tuple[jax.Array, ...]) -> PyTree:
            # Not what a loop or a checkpoint inside it computes: that has no value outside.
            self.trace = getattr(inputs[0], "_trace", None)
            return self._observed(apply_fn, variables, *inputs, **options)

        lifts = self.config.train.precision is Precision.fp64
        is_shared = self.config.train.randomness is Randomness.shared
        masks = Masks(are_shared=not lifts)
        with masks_of(masks):
            found, draws, narrow = call_without_draws(call, variables, inputs, lifts, is_shared)
        self.narrow = self._name_in_model(narrow) if narrow else ""
        self.draws = [replace(draw, layer=self._name_in_model(draw.layer)) for draw in draws]
        self.draws += masks.drawn.values()
        output, self.seen = found
        return output

    def _observed(
        self, apply_fn: Callable, variables: PyTree, *inputs: jax.Array, **options: PyTree
    ) -> tuple[PyTree, dict[str, jax.Array]]:
        self.seen = {}
        with nn.intercept_methods(self.intercept), observing(self.observe):
            output = apply_fn(variables, *inputs, **options)
        self.order = list(self.seen)
        return output, self.seen

    def intercept(
        self, call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext
    ) -> object:
        """Wrap a method of a module, for `nn.intercept_methods`."""
        name = ".".join(context.module.path)
        if not name and not self.root:  # not of a module that another one applies by itself
            self.root = type(context.module).__name__
        if context.method_name != "__call__" or not name:
            return call(*args, **kwargs)
        return self.observe(name, call, args, kwargs)

    def observe(self, name: str, call: Callable, args: tuple, kwargs: dict) -> object:
        """Call a module, and keep its inputs and outputs."""
        name = self.names.get(name, name)
        count = 1
        while (called := name if count == 1 else f"{name}#{count}") + " input" in self.seen:
            count += 1
        self._note(f"{called} input", (args, kwargs))
        output = call(*args, **kwargs)
        self._note(f"{called} output", output)
        return output

    def _name_in_model(self, scope: str) -> str:
        """Return the name of a module, given its path below the model's class."""
        name = ".".join(part for part in scope.split(".") if part != self.root)
        return self.names.get(name, name) or "the model itself"

    def _note(self, name: str, values: object) -> None:
        """Keep the first array among some values."""
        _, array = next(leaves(values, lambda leaf: isinstance(leaf, jax.Array)), ("", None))
        if array is not None and not jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            on_batch(partial(self._keep, name), array, array.dtype)

    def _keep(self, name: str, array: jax.Array) -> jax.Array:
        is_ours = self.trace is None or getattr(array, "_trace", None) in (None, self.trace)
        if array.ndim and is_ours:
            self.seen[name] = array
        return array


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
            draws=tuple(self.watch.draws),
            narrow=self.watch.narrow,
        )
        self.observer.stepped(trace)


def observe_step(
    watch: Watch, context: StepContext, samples: Samples, state: TrainState, inputs: StepInputs
) -> tuple[TrainState, tuple[jax.Array, dict[str, PyTree]]]:
    """Take one step; return its values and its trace."""
    observe_forward = partial(_observe_forward, watch)
    gradients, seen = accumulate_gradients(context, samples, state, inputs, observe_forward)
    state, values, clipped = update(context, state, gradients, inputs[-1])
    return state, (values, {**seen, "gradients": (gradients.grads, clipped)})


def _observe_forward(
    watch: Watch, context: StepContext, state: TrainState, part: MicroBatch, *arguments: PyTree
) -> tuple[PyTree, PyTree, dict[str, PyTree]]:
    """Compute `forward`; return the batch and the modules' inputs and outputs too."""
    observed = state.replace(apply_fn=partial(watch.apply, state.apply_fn))
    outputs, batch_stats, _ = forward(context, observed, part, *arguments)
    return outputs, batch_stats, {"batch": part[1], "forward": watch.seen}
