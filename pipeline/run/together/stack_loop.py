"""The loop over runs that train at once: what is the same in both backends."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import numpy as np

from pipeline.errors import Interrupted
from pipeline.run.experiment import Experiment
from pipeline.run.recording.learning_rates import LearningRates
from pipeline.run.together.save_times import SaveTimes
from pipeline.storage.recorder_state import RecorderState


@dataclass
class StackMember:
    """One of the runs that train at once.

    Attributes:
        failure: the error that ended it before its last step, if any.
        best: the recorder's state at the best evaluation, as long as that is not saved.
        saved: the step of the newest checkpoint that was made here.
    """

    experiment: Experiment
    failure: Exception | None = None
    is_over: bool = False
    best: RecorderState | None = None
    saved: int = -1

    @contextmanager
    def noting_failure(self) -> Generator[None]:
        """End this run, and no other, with an error that is raised within."""
        try:
            yield
        except Exception as error:
            self.failure = error
            self.end()

    def end(self) -> None:
        """End this run while others go on, whose time does not count for it."""
        self.is_over = True
        self.experiment.recorder.stopwatch.suspend()


M = TypeVar("M", bound=StackMember)


class StackLoop(ABC, Generic[M]):
    """The loop over runs that are at one step, each a row of a stack.

    A run that is over stays in the stack until half of them are. An error in what is done for one run after
    the other ends that run alone.
    """

    def __init__(self, members: Sequence[M]) -> None:
        self.stack, lead = list(members), members[0].experiment
        self.config, self.plan, self.intervals = lead.config, lead.plan, lead.recorder.intervals
        self.rates = LearningRates([member.experiment for member in members])

    def begin(self) -> None:
        """Start to count the time to the first save, until which the best states wait on the device."""
        self.save_times = SaveTimes(len(self.stack))
        for member in self.stack:
            member.experiment.recorder.runs_at_once = len(self.stack)

    @abstractmethod
    def count_that_fits(self, start: int) -> int:
        """Return how many of the runs the memory is enough for."""

    @abstractmethod
    def run(self, start: int) -> None:
        """Train to the last step of all runs."""

    @abstractmethod
    def record(self, step: int) -> None:
        """Pass the values of the steps since the last call to the recorders."""

    @abstractmethod
    def sums(self) -> Sequence[Mapping[str, float]]:
        """Return the sums of each run over the validation set."""

    @abstractmethod
    def weights(self, row: int, step: int) -> dict[str, np.ndarray]:
        """Return the evaluated weights of a run by canonical name."""

    @abstractmethod
    def keep_best(self, rows: Sequence[int]) -> None:
        """Keep the present states of these rows, which are their best."""

    @abstractmethod
    def save_best(self, row: int, member: M) -> None:
        """Save the state that was kept for a run."""

    @abstractmethod
    def save(self, row: int, member: M, step: int) -> None:
        """Save the best state of a run and that of this step, unless they are saved."""

    @abstractmethod
    def keep_rows(self, rows: Sequence[int]) -> None:
        """Take all other rows out of the stack."""

    @property
    def live(self) -> list[tuple[int, M]]:
        """The runs that go on, each with its row in the stack."""
        return [(row, member) for row, member in enumerate(self.stack) if not member.is_over]

    def each(self, method: str, *arguments: str | int) -> None:
        """Call a method of all recorders."""
        for _, member in self.live:
            getattr(member.experiment.recorder, method)(*arguments)

    def goes_on(self, step: int) -> bool:
        """Record, evaluate and save what is due after a step; return False if it was the last."""
        evaluates = self.intervals.evaluates(step)
        if evaluates or self.intervals.logs(step):
            self.record(step)
        if evaluates:
            self._evaluate(step)
        if step == self.intervals.total or not self.live or self._interrupt(step):
            return False
        rows = [row for row, _ in self.live]
        if len(rows) <= len(self.stack) // 2:
            self.keep_rows(rows)
            self.stack = [self.stack[row] for row in rows]
            self.rates = LearningRates([member.experiment for member in self.stack])
        return True

    def _evaluate(self, step: int) -> None:
        """Evaluate all runs, keep the best state of each, and save what is due."""
        self.each("pause")
        sums, improved = self.sums(), []
        for row, member in self.live:
            recorder = member.experiment.recorder
            with self.ending(row, member):
                recorder.record_evaluation(step, sums[row], partial(self.weights, row, step))
                recorder.resume("eval")
                memory = recorder.state(step)  # refuses losses that are not finite
                if recorder.best and recorder.best.step == step:
                    member.best = memory
                    improved.append(row)
        if improved:
            self.keep_best(improved)
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
            member.end()

    def _save_all(self, members: Sequence[tuple[int, M]], step: int) -> None:
        """Save runs, each with its row; an error ends that run alone."""
        for row, member in members:
            with member.noting_failure():
                self.save(row, member, step)

    @contextmanager
    def ending(self, row: int, member: M) -> Generator[None]:
        """End a run in which an error is raised, and save its best state, unless it is saved."""
        with member.noting_failure():
            yield
        if member.failure is not None and member.best is not None:
            with suppress(Exception):  # the failure is what the user is told
                self.save_best(row, member)

    def _interrupt(self, step: int) -> bool:
        """Return whether the runs must stop after this step; then all are saved."""
        lead = self.live[0][1].experiment.recorder
        if (code := lead.exit_code_if_stopped(step)) is None:
            return False
        self.record(step)
        for row, member in self.live:
            with member.noting_failure():
                self.save(row, member, step)
                raise Interrupted(step, code)
        return True


def train_groups(
    members: Mapping[int, Sequence[M]],
    make_loop: Callable[[Sequence[M], ExitStack], StackLoop[M]],
) -> None:
    """Train members by the step that they are at; those at one step at once, in parts if memory is short."""
    groups = list(members.items())
    for _, group in groups:
        if len(group) == 1 and len(groups) > 1:
            group[0].experiment.recorder.alone = "the others are at other steps"
    while groups:
        start, group = groups.pop(0)
        if start >= group[0].experiment.recorder.intervals.total:
            continue
        with ExitStack() as opened:
            loop = make_loop(group, opened)
            fitting = loop.count_that_fits(start)
            if fitting == len(group):
                loop.run(start)
                continue
        text = f"memory is enough for {fitting} of {len(group)} runs at once"
        group[0].experiment.recorder.progress.message(text)
        parts = [group[first : first + fitting] for first in range(0, len(group), fitting)]
        for part in parts:
            if len(part) == 1:
                part[0].experiment.recorder.alone = text
        groups[:0] = [(start, part) for part in parts]
