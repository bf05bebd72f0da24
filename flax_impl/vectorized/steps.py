"""The training step of several runs at once: that of one run, mapped over a stack of states."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr
from jax.interpreters.partial_eval import dce_jaxpr

from flax_impl.data.samples import Batch, BatchRows, Samples
from flax_impl.device import Device, PyTree
from flax_impl.layers import Layout
from flax_impl.training.descent import make_descent
from flax_impl.training.step import StepContext, make_train_step
from flax_impl.training.train_state import TrainState
from flax_impl.vectorized.images import MappedConvolutions
from flax_impl.vectorized.number import Number, with_numbers
from pipeline.config.experiment import Config
from pipeline.devices.hardware import free_memory
from pipeline.rng import key_words
from pipeline.run.experiment import Experiment
from pipeline.run.together.memory import count_that_fits
from pipeline.run.together.own_draws import must_not_draw, refusing_global_draws, shared_draws
from pipeline.run.together.run_inputs import numbers_of

# Numbers that a single run computes with before they meet an array; see `Number`.
EXACT = ("model.dropout", "model.drop_path", "train.ema")


class ManySteps:
    """A compiled step for several runs, and what else is computed for a stack of states.

    A number of the config that differs between the runs is an input of the step.
    """

    def __init__(self, experiments: Sequence[Experiment], layout: Layout, device: Device) -> None:
        lead = experiments[0]
        self.layout, self.device = layout, device
        self.context = StepContext(lead.config, lead.plan, device)
        own = [numbers_of(experiment.config) for experiment in experiments]
        of_runs = {key: np.array([numbers[key] for numbers in own]) for key in own[0]}
        differing = {key: found for key, found in of_runs.items() if np.ptp(found)}
        self.exact = {key: found for key, found in differing.items() if key in EXACT}
        self.inputs = {
            "row": np.arange(len(experiments), dtype=np.int32),
            "words": np.array(
                [key_words(one.config.seed, "dropout") for one in experiments], np.uint32
            ),
            "numbers": {
                key: found.astype(device.dtype)
                for key, found in differing.items()
                if key not in EXACT
            },
        }
        self.programs: dict[tuple[int, int], jax.stages.Compiled] = {}
        self.mapped = jax.jit(
            jax.vmap(self._one, in_axes=(0, 0, None, 0, 0, 0, 0)), donate_argnums=0
        )
        self.row = jax.jit(lambda states, row: jax.tree.map(lambda leaf: leaf[row], states))

    def _one(
        self,
        state: TrainState,
        inputs: Mapping[str, PyTree],
        samples: Samples,
        rows: BatchRows,
        draws: Batch,
        terms: jax.Array,
        rates: jax.Array,
    ) -> tuple[TrainState, jax.Array]:
        """Take the steps of one run, with its own numbers."""
        exact = {key: Number(of_runs, inputs["row"]) for key, of_runs in self.exact.items()}
        config, of_model = _with_numbers(self.context.config, inputs["numbers"] | exact)
        context = replace(self.context, config=config, words=inputs["words"])
        apply_fn, tx = state.apply_fn, state.tx
        state = state.replace(
            apply_fn=partial(apply_fn, numbers=of_model), tx=make_descent(self.layout, config)[1]
        )
        state, values = make_train_step(context)(state, samples, rows, draws, terms, rates)
        return state.replace(apply_fn=apply_fn, tx=tx), values

    def stacked(self, states: Sequence[TrainState]) -> TrainState:
        """Stack states along a first axis of runs."""
        lead = states[0]
        alike = [state.replace(apply_fn=lead.apply_fn, tx=lead.tx) for state in states]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *alike)

    def is_compiled(self, runs: int, count: int) -> bool:
        """Return whether the program for so many runs and steps in a call is there."""
        return (runs, count) in self.programs

    def compile(self, states: PyTree, arguments: tuple) -> jax.stages.Compiled:
        """Compile the program for states, or their shapes, and the arguments after them."""
        runs, count = arguments[-1].shape
        taken = states, self.inputs, *arguments
        with MappedConvolutions(self.device.kind), refusing_global_draws(self.context.config):
            traced = self.mapped.trace(*taken)
        if must_not_draw(self.context.config) and _uses(traced.jaxpr, taken, self.inputs["words"]):
            raise shared_draws()
        self.programs[runs, count] = program = traced.lower().compile()
        return program

    def __call__(self, states: TrainState, arguments: tuple) -> tuple[TrainState, jax.Array]:
        """Take steps; return the states and the values of each step `[runs, steps, values]`."""
        return self.programs[arguments[-1].shape](states, self.inputs, *arguments)

    def count_that_fits(self, states: Sequence[TrainState], arguments: tuple) -> int:
        """Return how many of the runs the memory is enough for, at least 1; the program is compiled.

        `arguments` are those of one call for all.
        """
        runs = len(states)
        shapes = jax.eval_shape(self.stacked, states)
        used = self.compile(shapes, arguments).memory_analysis()
        # The states are there three times: each run's own, the stack, and the best.
        own = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
        working = used.temp_size_in_bytes + used.output_size_in_bytes if used else own
        needed = working + 3 * own
        free = self.device.free_bytes() or free_memory()
        return count_that_fits(runs, needed, free)

    def select(self, chosen: np.ndarray, new: TrainState, old: TrainState) -> TrainState:
        """Return the new state of the chosen runs, and the old of all others."""
        return _select(chosen, new, old)

    def take(self, rows: Sequence[int], *stacks: TrainState) -> list[TrainState]:
        """Return stacks of the runs in some rows, which have a program of their own."""
        index = np.array(rows)
        self.inputs = jax.tree.map(lambda values: values[index], self.inputs)
        return [jax.tree.map(lambda leaf: leaf[index], stack) for stack in stacks]


def _uses(closed: ClosedJaxpr, arguments: PyTree, argument: np.ndarray) -> bool:
    """Return whether the results of a traced function depend on one of its arguments."""
    _, used = dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars))
    return any(
        u for u, leaf in zip(used, jax.tree.leaves(arguments), strict=True) if leaf is argument
    )


@jax.jit
def _select(chosen: jax.Array, new: TrainState, old: TrainState) -> TrainState:
    def leaf(own: jax.Array, other: jax.Array) -> jax.Array:
        return jnp.where(chosen.reshape(-1, *[1] * (own.ndim - 1)), own, other)

    return jax.tree.map(leaf, new, old)


def _with_numbers(
    config: Config, numbers: Mapping[str, jax.Array | Number]
) -> tuple[Config, dict[str, jax.Array | Number]]:
    """Return a config with other numbers, by dotted key, and those of the model, by name.

    The model is made already.
    """
    by_group: dict[str, dict[str, jax.Array | Number]] = {}
    for key, number in numbers.items():
        group, name = key.split(".")
        by_group.setdefault(group, {})[name] = number
    of_model = by_group.pop("model", {})
    changed = {group: with_numbers(getattr(config, group), own) for group, own in by_group.items()}
    return with_numbers(config, changed), of_model
