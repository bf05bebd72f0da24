"""Training of several runs at once: the loop over a stack of their states.

Our own: Lightning's Trainer trains one module.
"""

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from lightning_impl.checkpoints import CheckpointFiles, remove_outdated
from lightning_impl.data.batches import EvalBatches
from lightning_impl.device import Device
from lightning_impl.state import evaluated_weights, parameters_of
from lightning_impl.training.step import TrainingModule
from lightning_impl.transfer import content_of
from lightning_impl.vectorized.batches import ManyBatches
from lightning_impl.vectorized.stack import Row
from lightning_impl.vectorized.steps import ManySteps
from pipeline.errors import Interrupted
from pipeline.run.experiment import Experiment
from pipeline.run.recording.learning_rates import LearningRates
from pipeline.run.recording.save_times import SaveTimes
from pipeline.storage.checkpoints import remove_unfinished_saves
from pipeline.storage.recorder_state import RecorderState
from pipeline.storage.run_folder import CHECKPOINTS


@dataclass
class Member:
    """One of the runs that train at once; `failure` is what ended it before its last step, if anything.

    `best` is the state at the best evaluation, and the recorder's there, as long as it is not saved.
    """

    experiment: Experiment
    module: TrainingModule | None = None
    step: int = 0  # at which it starts
    failure: Exception | None = None
    is_over: bool = False
    best: tuple[Row, RecorderState] | None = None
    saved: int = -1  # step of the newest checkpoint that was made here

    @contextmanager
    def noting_failure(self) -> Generator[None]:
        """End this run, and no other, with an error that is raised within."""
        try:
            yield
        except Exception as error:
            self.failure, self.is_over = error, True

    def start(self, module: TrainingModule, resumed: CheckpointFiles) -> None:
        """Take the state to start from: a module at step 0, or with the weights of a checkpoint."""
        optimizer = module.configure_optimizers()
        if content := resumed.load_checkpoint():
            optimizer.load_state_dict(content["optimizer_states"][0])
            self.step = content["global_step"]
        remove_unfinished_saves(self.experiment.folder / CHECKPOINTS)
        self.module = module


def train_members(members: Sequence[Member], device: Device) -> None:
    """Train the members that have a state; those that are at the same step at once."""
    going: dict[int, list[Member]] = {}
    for member in members:
        if member.module is not None and not member.experiment.recorder.stopped_early:
            going.setdefault(member.step, []).append(member)
    groups = list(going.items())
    while groups:
        start, group = groups.pop(0)
        if start >= group[0].experiment.recorder.intervals.total:
            continue
        group.sort(key=lambda member: ManySteps.settings(member.experiment))
        with ExitStack() as opened:
            loop = _Loop(group, device, opened)
            fitting = loop.count_that_fits(start)
            if fitting == len(group):
                loop.run(start)
                continue
        text = f"memory is enough for {fitting} of {len(group)} runs at once"
        group[0].experiment.recorder.progress.message(text)
        parts = range(0, len(group), fitting)
        groups[:0] = [(start, group[first : first + fitting]) for first in parts]


# The order of a step is that of `lightning_impl.training.loop`, for all runs together; what is not done for
# all in one call is done for one run after the other, and an error in it ends that run alone.


class _Loop:
    """The loop over runs at one step. A run that is over stays in the stack until half of them are."""

    def __init__(self, members: Sequence[Member], device: Device, opened: ExitStack) -> None:
        self.stack, self.device = list(members), device
        lead, runs = members[0].experiment, [member.experiment for member in members]
        self.config, self.plan, self.intervals = lead.config, lead.plan, lead.recorder.intervals
        modules = [member.module for member in members if member.module is not None]
        self.module = modules[0].to(device.torch_device)
        self.steps = ManySteps(runs, self.module, [Row.of(one) for one in modules], device)
        self.batches = ManyBatches([run.plan for run in runs], device, self.config.train.accumulate)
        opened.callback(self.batches.close)
        self.rates = LearningRates(runs)
        self.evaluated = EvalBatches(
            self.plan.data.val, self.plan, device, self.config.train.eval_batch
        )
        self.loops: dict[
            int, dict[str, object]
        ] = {}  # Lightning's, in the last checkpoint's content
        self.waiting: list[torch.Tensor] = []  # values of steps on the device, `[runs, values]`

    def count_that_fits(self, start: int) -> int:
        """Return how many of the runs the memory is enough for."""
        return self.steps.count_that_fits(self.batches(start))

    @property
    def live(self) -> list[tuple[int, Member]]:
        """The runs that go on, each with its row in the stack."""
        return [(row, member) for row, member in enumerate(self.stack) if not member.is_over]

    def run(self, start: int) -> None:
        """Train to the last step of all runs."""
        self.save_times = SaveTimes(len(self.stack))  # the best states wait on the device
        for row, member in self.live:
            recorder, module = member.experiment.recorder, member.module
            with member.noting_failure():
                if start == 0 and module is not None:
                    recorder.describe(parameters_of(module.model), self.batches.digest(row))
                recorder.begin(start, self.device)
            member.module = None
        for step in range(start + 1, self.intervals.total + 1):
            self._step(step)
            if self.intervals.logs(step) or self.intervals.evaluates(step):
                self._record(step)
            if self.intervals.evaluates(step):
                self._evaluate(step)
            if step == self.intervals.total or not self.live or self._interrupt(step):
                return
            self._compact()

    def _step(self, step: int) -> None:
        done = step - 1
        batches, terms = self.batches(done), self.batches.terms(done)
        self.waiting.append(self.steps(done, batches, terms, self.rates(done)))

    def _each(self, method: str) -> None:
        for _, member in self.live:
            getattr(member.experiment.recorder, method)()

    def _record(self, step: int) -> None:
        """Pass the values of the steps since the last call to the recorders."""
        values = torch.stack(self.waiting, dim=1).cpu()  # `[runs, steps, values]`
        self.waiting = []
        first = step - values.shape[1] + 1
        for row, member in self.live:
            with self._ending(row, member):
                for number, own in enumerate(values[row].unbind()):
                    member.experiment.recorder.record_step(first + number, own)

    def _evaluate(self, step: int) -> None:
        """Evaluate all runs, keep the best state of each, and save what is due."""
        self._each("pause")
        sums = self.steps.evaluate(self.evaluated)
        for row, member in self.live:
            recorder = member.experiment.recorder
            with self._ending(row, member):
                recorder.record_evaluation(step, sums[row], partial(self._weights, row, step))
                recorder.resume("eval")
                memory = recorder.state(step)  # refuses losses that are not finite
                if recorder.best and recorder.best.step == step:
                    member.best = self.steps.stack.row(row), memory
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
                self._save_best(member)

    def _weights(self, row: int, step: int) -> dict[str, np.ndarray]:
        self.steps.stack.row(row).fill(self.module, step)
        average = self.module.average
        return evaluated_weights(self.module.model, average and average.module)

    def _save(self, row: int, member: Member, step: int) -> None:
        """Save the best state of a run and that of this step, unless they are saved."""
        if member.saved == step:
            return
        recorder = member.experiment.recorder
        if member.best is not None:
            self._save_best(member)
        self._write(member, self.steps.stack.row(row), step, recorder.state(step), "last")
        remove_outdated(member.experiment.folder, step, recorder.best)
        member.saved = step

    def _save_best(self, member: Member) -> None:
        assert member.best is not None
        best = member.experiment.recorder.best
        state, memory = member.best
        assert best is not None
        self._write(member, state, best.step, memory, "best")
        member.best = None

    def _write(
        self, member: Member, state: Row, step: int, memory: RecorderState, kind: str
    ) -> None:
        """Write a state as the checkpoint that a run alone writes."""
        experiment = member.experiment
        state.fill(self.module, step)
        loops = self.loops.get(step)  # a Trainer takes 10 ms to make
        content = content_of(self.module, step, memory, experiment, self.device, loops)
        self.loops = {step: content["loops"]}
        path = experiment.folder / CHECKPOINTS / f"{kind}-{step:06d}.ckpt"
        CheckpointFiles().save_checkpoint(content, path)

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
            self.steps.take(rows)
            self.batches.keep(rows)
            self.stack = [self.stack[row] for row in rows]
            self.rates = LearningRates([member.experiment for member in self.stack])
