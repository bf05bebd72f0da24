"""The training step of several runs at once: that of one run, mapped over a stack of states."""

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from flax_impl.data.samples import Batch, BatchRows, Samples
from flax_impl.device import Device, PyTree
from flax_impl.layers import Layout
from flax_impl.training.descent import make_descent
from flax_impl.training.step import StepContext, make_train_step
from flax_impl.training.train_state import TrainState
from flax_impl.vectorized.images import MappedConvolutions
from pipeline.config.experiment import Config
from pipeline.devices.hardware import free_memory
from pipeline.rng import key_words
from pipeline.run.experiment import Experiment
from pipeline.run.together.run_inputs import numbers_of

FREE_PART = 0.9  # of the free memory that the runs may take


class ManySteps:
    """A compiled step for several runs, and what else is computed for a stack of states.

    A number of the config that differs between the runs is an input of the step.
    """

    def __init__(self, experiments: Sequence[Experiment], layout: Layout, device: Device) -> None:
        lead = experiments[0]
        self.layout, self.device = layout, device
        self.context = StepContext(lead.config, lead.plan, device)
        own = [numbers_of(experiment.config) for experiment in experiments]
        differing = [key for key in own[0] if len({numbers[key] for numbers in own}) > 1]
        self.inputs = {
            "words": np.array(
                [key_words(one.config.seed, "dropout") for one in experiments], np.uint32
            ),
            "numbers": {
                key: np.array([numbers[key] for numbers in own], device.dtype) for key in differing
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
        config, tx = _with_numbers(self.context.config, inputs["numbers"]), state.tx
        context = replace(self.context, config=config, words=inputs["words"])
        state = state.replace(tx=make_descent(self.layout, config)[1])
        state, values = make_train_step(context)(state, samples, rows, draws, terms, rates)
        return state.replace(tx=tx), values

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
        with MappedConvolutions(self.device.kind):
            lowered = self.mapped.lower(states, self.inputs, *arguments)
        self.programs[runs, count] = program = lowered.compile()
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
        fitting = runs
        while fitting > 1 and needed * fitting / runs > FREE_PART * free:
            fitting = -(-fitting // 2)
        return fitting

    def select(self, chosen: np.ndarray, new: TrainState, old: TrainState) -> TrainState:
        """Return the new state of the chosen runs, and the old of all others."""
        return _select(chosen, new, old)

    def take(self, rows: Sequence[int], *stacks: TrainState) -> list[TrainState]:
        """Return stacks of the runs in some rows, which have a program of their own."""
        index = np.array(rows)
        self.inputs = jax.tree.map(lambda values: values[index], self.inputs)
        return [jax.tree.map(lambda leaf: leaf[index], stack) for stack in stacks]


@jax.jit
def _select(chosen: jax.Array, new: TrainState, old: TrainState) -> TrainState:
    def leaf(own: jax.Array, other: jax.Array) -> jax.Array:
        return jnp.where(chosen.reshape(-1, *[1] * (own.ndim - 1)), own, other)

    return jax.tree.map(leaf, new, old)


def _with_numbers(config: Config, numbers: Mapping[str, jax.Array]) -> Config:
    """Return a config with other numbers, which may be traced, by dotted key."""
    own = copy(config)
    for key, number in numbers.items():
        group, name = key.split(".")
        changed = copy(getattr(own, group))
        setattr(changed, name, number)
        setattr(own, group, changed)
    return own
