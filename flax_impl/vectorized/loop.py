"""Training of several runs at once: the loop over a stack of their states."""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import jax
import numpy as np

from flax_impl.checkpoints import Checkpoints
from flax_impl.data.batches import EvalBatches
from flax_impl.device import Device
from flax_impl.layers import Layout
from flax_impl.state import evaluated_weights, parameters_of
from flax_impl.training.eval_step import make_eval_step
from flax_impl.training.step import StepContext
from flax_impl.training.train_state import TrainState
from flax_impl.vectorized.batches import ManyBatches
from flax_impl.vectorized.images import MappedConvolutions
from flax_impl.vectorized.steps import ManySteps
from pipeline.run.together.stack_loop import StackLoop, StackMember, train_groups
from pipeline.storage.run_folder import CHECKPOINTS


@dataclass
class Member(StackMember):
    """One of the runs that train at once.

    Attributes:
        state: weights and optimizer at its first step here; None once they are in the stack.
        tested: step and state of its best checkpoint, which need not be read.
    """

    state: TrainState | None = None
    tested: tuple[int, TrainState] | None = None
    layout: Layout = field(default_factory=dict)
    checkpoints: Checkpoints | None = None


def train_members(members: Sequence[Member], device: Device) -> None:
    """Train the members that have a state; those that are at the same step at once."""
    going: dict[int, list[Member]] = {}
    for member in members:
        if member.state is not None and not member.experiment.recorder.stopped_early:
            going.setdefault(int(member.state.step), []).append(member)
    train_groups(going, lambda group, opened: _Loop(group, device, opened))


class _Loop(StackLoop[Member]):
    """The order of a step is that of `flax_impl.training.loop`, for all runs together."""

    def __init__(self, members: Sequence[Member], device: Device, opened: ExitStack) -> None:
        super().__init__(members)
        self.device, self.opened = device, opened
        runs = [member.experiment for member in members]
        self.steps = ManySteps(runs, members[0].layout, device)
        plans = [experiment.plan for experiment in runs]
        self.batches = ManyBatches(plans, device, self.config.train.accumulate)
        opened.callback(self.batches.close)
        self.evaluated = EvalBatches(
            self.plan.data.val, self.plan, device, self.config.train.eval_batch
        )
        step = make_eval_step(StepContext(self.config, self.plan, device))
        self.evaluate = jax.jit(jax.vmap(step, in_axes=(0, None, None, None, None)))
        self.waiting: list[jax.Array] = []  # values of steps on the device, `[runs, steps, values]`
        self.compiling = 0.0  # seconds, before the first step

    def count_that_fits(self, start: int) -> int:
        """Compile the first call, and return how many of the runs the memory is enough for."""
        began = time.monotonic()
        first, count = next(iter(self._calls(start)))
        states = [member.state for member in self.stack if member.state is not None]
        fitting = self.steps.count_that_fits(states, self._arguments(first, count))
        self.compiling = time.monotonic() - began
        return fitting

    def _calls(self, start: int) -> Iterator[tuple[int, int]]:
        limit = self.batches.steps_per_call
        if self.config.accelerator.steps_per_call is None:
            limit = self.intervals.call_length(limit)
        return self.intervals.calls(start, limit, self.config.train.stop_after)

    def run(self, start: int) -> None:
        """Train to the last step of all runs."""
        self.begin()
        self.start = start
        self.states = self.steps.stacked([m.state for m in self.stack if m.state is not None])
        self.kept = jax.tree.map(jax.numpy.copy, self.states)  # at the best evaluation of each
        for row, member in self.live:
            recorder = member.experiment.recorder
            with member.noting_failure():
                if start == 0:
                    weights = parameters_of(self.steps.row(self.states, row), member.layout)
                    recorder.describe(weights, self.batches.digest(row))
                recorder.begin(start, self.device)
                recorder.stopwatch.move(self.compiling, "setup", "compile")
            member.state = None
        for first, count in self._calls(start):
            self._step(first, count)
            if not self.goes_on(first + count):
                return

    def _step(self, first: int, count: int) -> None:
        arguments = self._arguments(first, count)
        if not self.steps.is_compiled(len(self.stack), count):
            self.each("pause")
            self.steps.compile(self.states, arguments)
            self.each("resume", "compile")
        self.states, values = self.steps(self.states, arguments)
        self.each("note_call", count)
        self.waiting.append(values)

    def _arguments(self, first: int, count: int) -> tuple:
        """Return the arguments of a call of the step after the states."""
        rates = np.array([self.rates(done) for done in range(first, first + count)]).T
        return (*self.batches(first, count), rates.astype(self.device.dtype))

    def record(self, step: int) -> None:
        """Pass the values of the steps since the last call to the recorders."""
        if not self.waiting:
            return
        values = np.concatenate(jax.device_get(self.waiting), axis=1)
        self.waiting = []
        for row, member in self.live:
            with self.ending(row, member):
                member.experiment.recorder.record_step(step, values[row])

    def sums(self) -> list[dict[str, float]]:
        """Return the sums of each run over the validation set."""
        with MappedConvolutions(self.device.kind):
            done = [self.evaluate(self.states, *batch)[0] for batch in self.evaluated]
        totals = np.asarray(jax.device_get(done), np.float64).sum(axis=0)
        names = self.plan.data.sums
        return [dict(zip(names, row, strict=True)) for row in totals.tolist()]

    def weights(self, row: int, step: int) -> dict[str, np.ndarray]:
        """Return the evaluated weights of a run by canonical name."""
        return evaluated_weights(self.steps.row(self.states, row), self.stack[row].layout)

    def keep_best(self, rows: Sequence[int]) -> None:
        """Keep the present states of these rows, which are their best."""
        improved = np.zeros(len(self.stack), bool)
        improved[list(rows)] = True
        self.kept = self.steps.select(improved, self.states, self.kept)

    def _checkpoints(self, member: Member) -> Checkpoints:
        if member.checkpoints is None:
            folder, recorder = member.experiment.folder / CHECKPOINTS, member.experiment.recorder
            checkpoints = Checkpoints(folder, recorder, member.layout)
            member.checkpoints = self.opened.enter_context(checkpoints)
        return member.checkpoints

    def save_best(self, row: int, member: Member) -> None:
        """Save the state that was kept for a run."""
        assert member.best is not None
        self._checkpoints(member).save(self.steps.row(self.kept, row), member.best)

    def save(self, row: int, member: Member, step: int) -> None:
        """Save the best state of a run and that of this step, unless they are saved."""
        if member.saved == step:
            return
        best = member.experiment.recorder.best
        if member.best is not None and best and best.step != step:
            self.save_best(row, member)
        self._checkpoints(member).save(self.steps.row(self.states, row))
        member.best, member.saved = None, step
        if best and best.step > self.start:
            states = self.states if best.step == step else self.kept
            member.tested = best.step, self.steps.row(states, row)

    def keep_rows(self, rows: Sequence[int]) -> None:
        """Take all other rows out of the stack."""
        self.states, self.kept = self.steps.take(rows, self.states, self.kept)
        self.batches.keep(rows)
