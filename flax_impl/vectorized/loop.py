"""Training of several runs at once: the loop over a stack of their states."""

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import jax
import numpy as np

from flax_impl.checkpoints import Checkpoints
from flax_impl.data.batches import EvalBatches
from flax_impl.device import Device, PyTree
from flax_impl.layers import Layout
from flax_impl.state import evaluated_weights, parameters_of
from flax_impl.training.step import StepContext, make_eval_step
from flax_impl.training.train_state import TrainState
from flax_impl.vectorized.batches import ManyBatches
from flax_impl.vectorized.steps import ManySteps
from pipeline.errors import Interrupted
from pipeline.run.experiment import Experiment
from pipeline.run.recording.learning_rates import LearningRates
from pipeline.run.recording.save_times import SaveTimes
from pipeline.storage.recorder_state import RecorderState
from pipeline.storage.run_folder import CHECKPOINTS


@dataclass
class Member:
    """One of the runs that train at once; `failure` is what ended it before its last step, if anything.

    `best` is the recorder's state at the best evaluation, as long as it is not saved.
    """

    experiment: Experiment
    state: TrainState | None = None
    layout: Layout = field(default_factory=dict)
    failure: Exception | None = None
    is_over: bool = False
    best: RecorderState | None = None
    saved: int = -1  # step of the newest checkpoint that was made here
    checkpoints: Checkpoints | None = None

    @contextmanager
    def noting_failure(self) -> Generator[None]:
        """End this run, and no other, with an error that is raised within."""
        try:
            yield
        except Exception as error:
            self.failure, self.is_over = error, True


def train_members(members: Sequence[Member], device: Device) -> None:
    """Train the members that have a state; those that are at the same step at once."""
    going: dict[int, list[Member]] = {}
    for member in members:
        if member.state is not None and not member.experiment.recorder.stopped_early:
            going.setdefault(int(member.state.step), []).append(member)
    groups = list(going.items())
    while groups:
        start, group = groups.pop(0)
        if start >= group[0].experiment.recorder.intervals.total:
            continue
        with ExitStack() as opened:
            loop = _Loop(group, device, opened)
            fitting = loop.compile(start)
            if fitting == len(group):
                loop.run(start)
                continue
        text = f"memory is enough for {fitting} of {len(group)} runs at once"
        group[0].experiment.recorder.progress.message(text)
        parts = range(0, len(group), fitting)
        groups[:0] = [(start, group[first : first + fitting]) for first in parts]


# The order of a step is that of `flax_impl.training.loop`, for all runs together; what is not done for all
# in one call is done for one run after the other, and an error in it ends that run alone.


class _Loop:
    """The loop over runs at one step. A run that is over stays in the stack until half of them are."""

    def __init__(self, members: Sequence[Member], device: Device, opened: ExitStack) -> None:
        self.stack, self.device, self.opened = list(members), device, opened
        lead, runs = members[0].experiment, [member.experiment for member in members]
        self.config, self.plan, self.intervals = lead.config, lead.plan, lead.recorder.intervals
        self.steps = ManySteps(runs, members[0].layout, device)
        plans = [experiment.plan for experiment in runs]
        self.batches = ManyBatches(plans, device, self.config.train.accumulate)
        opened.callback(self.batches.close)
        self.rates = LearningRates(runs)
        self.evaluation = _Evaluation(self)
        self.waiting: list[jax.Array] = []  # values of steps on the device, `[runs, steps, values]`
        self.compiling = 0.0  # seconds, before the first step

    def compile(self, start: int) -> int:
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

    @property
    def live(self) -> list[tuple[int, Member]]:
        """The runs that go on, each with its row in the stack."""
        return [(row, member) for row, member in enumerate(self.stack) if not member.is_over]

    def run(self, start: int) -> None:
        """Train to the last step of all runs."""
        self.states = self.steps.stacked([m.state for m in self.stack if m.state is not None])
        self.kept = jax.tree.map(jax.numpy.copy, self.states)  # at the best evaluation of each
        self.save_times = SaveTimes(len(self.stack))  # the best states wait on the device
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
            step = first + count
            self._step(first, count)
            if self.intervals.logs(step) or self.intervals.evaluates(step):
                self._record(step)
            if self.intervals.evaluates(step):
                self._evaluate(step)
            if step == self.intervals.total or not self.live or self._interrupt(step):
                return
            self._compact()

    def _step(self, first: int, count: int) -> None:
        arguments = self._arguments(first, count)
        if not self.steps.is_compiled(len(self.stack), count):
            self._each("pause")
            self.steps.compile(self.states, arguments)
            self._each("resume", "compile")
        self.states, values = self.steps(self.states, arguments)
        self._each("note_call", count)
        self.waiting.append(values)

    def _arguments(self, first: int, count: int) -> tuple:
        """Return the arguments of a call of the step after the states."""
        rates = np.array([self.rates(done) for done in range(first, first + count)]).T
        return (*self.batches(first, count), rates.astype(self.device.dtype))

    def _each(self, method: str, *arguments: str | int) -> None:
        for _, member in self.live:
            getattr(member.experiment.recorder, method)(*arguments)

    def _record(self, step: int) -> None:
        """Pass the values of the steps since the last call to the recorders."""
        values = np.concatenate(jax.device_get(self.waiting), axis=1)
        self.waiting = []
        for row, member in self.live:
            with self._ending(row, member):
                member.experiment.recorder.record_step(step, values[row])

    def _evaluate(self, step: int) -> None:
        """Evaluate all runs, keep the best state of each, and save what is due."""
        self._each("pause")
        sums = self.evaluation(self.states)
        improved = np.zeros(len(self.stack), bool)
        for row, member in self.live:
            recorder = member.experiment.recorder
            with self._ending(row, member):
                recorder.record_evaluation(step, sums[row], partial(self._weights, row))
                recorder.resume("eval")
                memory = recorder.state(step)  # refuses losses that are not finite
                if recorder.best and recorder.best.step == step:
                    improved[row], member.best = True, memory
        if improved.any():
            self.kept = self.steps.select(improved, self.states, self.kept)
        if self.save_times.is_due:
            with self.save_times.saving():
                self._save_all(self.live, step)
        is_last = step == self.intervals.total
        ending = [
            (row, member)
            for row, member in self.live
            if is_last or member.experiment.recorder.stopped_early
        ]
        self._save_all(ending, step)
        for _, member in ending:
            member.is_over = True

    def _save_all(self, members: Sequence[tuple[int, Member]], step: int) -> None:
        """Save runs, each with its row; an error ends that run alone."""
        for row, member in members:
            with member.noting_failure():
                self._save(row, member, step)

    @contextmanager
    def _ending(self, row: int, member: Member) -> Generator[None]:
        """End a run in which an error is raised, and save its best state, unless it is saved."""
        with member.noting_failure():
            yield
        if member.failure is not None and member.best is not None:
            with suppress(Exception):  # the failure is what the user is told
                self._checkpoints(member).save(self.steps.row(self.kept, row), member.best)

    def _weights(self, row: int) -> dict[str, np.ndarray]:
        return evaluated_weights(self.steps.row(self.states, row), self.stack[row].layout)

    def _checkpoints(self, member: Member) -> Checkpoints:
        if member.checkpoints is None:
            folder, recorder = member.experiment.folder / CHECKPOINTS, member.experiment.recorder
            checkpoints = Checkpoints(folder, recorder, member.layout)
            member.checkpoints = self.opened.enter_context(checkpoints)
        return member.checkpoints

    def _save(self, row: int, member: Member, step: int) -> None:
        """Save the best state of a run and that of this step, unless they are saved."""
        if member.saved == step:
            return
        checkpoints, best = self._checkpoints(member), member.experiment.recorder.best
        if member.best is not None and best and best.step != step:
            checkpoints.save(self.steps.row(self.kept, row), member.best)
        checkpoints.save(self.steps.row(self.states, row))
        member.best, member.saved = None, step

    def _interrupt(self, step: int) -> bool:
        """Return whether the runs must stop after this step; then all are saved."""
        lead = self.live[0][1].experiment.recorder
        if (code := lead.exit_code_if_stopped(step)) is None:
            return False
        if self.waiting:
            self._record(step)
        for row, member in self.live:
            with member.noting_failure():
                self._save(row, member, step)
                raise Interrupted(step, code)
        return True

    def _compact(self) -> None:
        """Take the runs that are over out of the stack, if they are half of it."""
        rows = [row for row, _ in self.live]
        if len(rows) <= len(self.stack) // 2:
            self.states, self.kept = self.steps.take(rows, self.states, self.kept)
            self.batches.keep(rows)
            self.stack = [self.stack[row] for row in rows]
            self.rates = LearningRates([member.experiment for member in self.stack])


class _Evaluation:
    """Evaluation of the validation set by all runs of a loop."""

    def __init__(self, loop: _Loop) -> None:
        config, plan = loop.config, loop.plan
        self.names = plan.data.sums
        self.batches = EvalBatches(plan.data.val, plan, loop.device, config.train.eval_batch)
        step = make_eval_step(StepContext(config, plan, loop.device))
        self.step = jax.jit(jax.vmap(step, in_axes=(0, None, None, None, None)))

    def __call__(self, states: PyTree) -> list[dict[str, float]]:
        """Return the sums of each run over the validation set."""
        done = [self.step(states, *batch)[0] for batch in self.batches]
        totals = np.asarray(jax.device_get(done), np.float64).sum(axis=0)
        return [dict(zip(self.names, row, strict=True)) for row in totals.tolist()]
