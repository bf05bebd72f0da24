"""Training of several runs at once: the loop over a stack of their states.

Our own: Lightning's Trainer trains one module.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

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
from pipeline.run.together.stack_loop import StackLoop, StackMember, train_groups
from pipeline.storage.checkpoints import remove_unfinished_saves
from pipeline.storage.recorder_state import RecorderState
from pipeline.storage.run_folder import CHECKPOINTS


@dataclass
class Member(StackMember):
    """One of the runs that train at once, with the module that it starts from, and its best state."""

    module: TrainingModule | None = None
    step: int = 0  # at which it starts
    kept: Row | None = None  # at the best evaluation

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
    for group in going.values():
        group.sort(key=lambda member: ManySteps.settings(member.experiment))
    train_groups(going, lambda group, opened: _Loop(group, device, opened))


class _Loop(StackLoop[Member]):
    """The order of a step is that of `lightning_impl.training.loop`, for all runs together."""

    def __init__(self, members: Sequence[Member], device: Device, opened: ExitStack) -> None:
        super().__init__(members)
        self.device, runs = device, [member.experiment for member in members]
        modules = [member.module for member in members if member.module is not None]
        self.steps = ManySteps(runs, modules, device)
        self.module = self.steps.module
        self.batches = ManyBatches([run.plan for run in runs], device, self.config.train.accumulate)
        opened.callback(self.batches.close)
        self.evaluated = EvalBatches(
            self.plan.data.val, self.plan, device, self.config.train.eval_batch
        )
        # Lightning's, in the last checkpoint's content, by step.
        self.loops: dict[int, dict[str, object]] = {}
        self.waiting: list[torch.Tensor] = []  # values of steps on the device, `[runs, values]`

    def count_that_fits(self, start: int) -> int:
        """Return how many of the runs the memory is enough for."""
        return self.steps.count_that_fits(self.batches(start))

    def run(self, start: int) -> None:
        """Train to the last step of all runs."""
        self.begin()
        for row, member in self.live:
            recorder, module = member.experiment.recorder, member.module
            with member.noting_failure():
                if start == 0 and module is not None:
                    recorder.describe(parameters_of(module.model), self.batches.digest(row))
                recorder.begin(start, self.device)
            member.module = None
        for done in range(start, self.intervals.total):
            batches, terms = self.batches(done), self.batches.terms(done)
            self.waiting.append(self.steps(done, batches, terms, self.rates(done)))
            if not self.goes_on(done + 1):
                return

    def record(self, step: int) -> None:
        """Pass the values of the steps since the last call to the recorders."""
        if not self.waiting:
            return
        values = torch.stack(self.waiting, dim=1).cpu()  # `[runs, steps, values]`
        self.waiting = []
        first = step - values.shape[1] + 1
        for row, member in self.live:
            with self.ending(row, member):
                for number, own in enumerate(values[row].unbind()):
                    member.experiment.recorder.record_step(first + number, own)

    def sums(self) -> list[dict[str, float]]:
        """Return the sums of each run over the validation set."""
        return self.steps.evaluate(self.evaluated)

    def weights(self, row: int, step: int) -> dict[str, np.ndarray]:
        """Return the evaluated weights of a run by canonical name."""
        self.steps.stack.row(row).fill(self.module, step)
        average = self.module.average
        return evaluated_weights(self.module.model, average and average.module)

    def keep_best(self, rows: Sequence[int]) -> None:
        """Keep the present states of these rows, which are their best."""
        for row in rows:
            self.stack[row].kept = self.steps.stack.row(row)

    def save_best(self, row: int, member: Member) -> None:
        """Save the state that was kept for a run."""
        best, state, memory = member.experiment.recorder.best, member.kept, member.best
        assert best is not None
        assert state is not None
        assert memory is not None
        self._write(member, state, best.step, memory, "best")
        member.best = member.kept = None

    def save(self, row: int, member: Member, step: int) -> None:
        """Save the best state of a run and that of this step, unless they are saved."""
        if member.saved == step:
            return
        recorder = member.experiment.recorder
        if member.best is not None:
            self.save_best(row, member)
        self._write(member, self.steps.stack.row(row), step, recorder.state(step), "last")
        remove_outdated(member.experiment.folder, step, recorder.best)
        member.saved = step

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

    def keep_rows(self, rows: Sequence[int]) -> None:
        """Take all other rows out of the stack."""
        self.steps.take(rows)
        self.batches.keep(rows)
