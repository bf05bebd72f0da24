"""Turns: each backend has a process of its own, and they take them in rounds; see `rounds`."""

import multiprocessing
import signal
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Self

from pipeline.bench.results import INFER, LAYERS, TRAIN
from pipeline.bench.statistics import FEWEST
from pipeline.bench.timing.rounds import Known, TakeTurn, alternate, are_precise
from pipeline.bench.timing.side import END, Answer, Asked, Failed, Layers, Ready, Turn, serve
from pipeline.config.experiment import Config

TURN = 0.2  # seconds of a turn, at most, unless one step takes longer
MOST_ROUNDS = 50


class Side:
    """One backend's process, started at its own configuration, and what it has answered.

    A turn lasts about `turn` seconds. `failed` is set once it cannot go on. Turns of both phases are in
    `seconds`, per step or inference.
    """

    def __init__(self, name: str, config: Config, turn: float = TURN) -> None:
        self.name, self.config, self.turn = name, config, turn
        self.seconds: dict[str, list[float]] = {TRAIN: [], INFER: []}
        self.ready: dict[str, Ready] = {}
        self.failed: Failed | None = None
        self.count = 1  # steps or inferences of a turn
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(
            target=serve, args=(config, theirs, time.perf_counter()), daemon=True
        )
        try:
            with signals_held():
                self.process.start()
        except KeyboardInterrupt:
            self.process.kill()
            raise
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        if self.failed is None and not any(failure):
            self._ask(Asked(END))
            self.process.join(timeout=10)
        self.process.kill()
        self.process.join()
        self.connection.close()

    def begin(self, phase: str) -> None:
        """Wait for the first result of a phase, and choose the length of turns."""
        if phase == INFER:
            self._ask(Asked(INFER))
        ready = self._answer()
        if not isinstance(ready, Ready):
            return
        self.ready[phase] = ready
        self.count = ready.unit
        self.take(phase)  # the first steps are not typical
        taken = self.take(phase)
        while taken is not None and taken.seconds < self.turn / 2:
            each = max(taken.seconds / taken.count, 1e-6)
            wanted = min(10 * self.count, self.turn / each)
            self.count = self._whole(phase, max(2 * self.count, round(wanted)), ready.unit)
            taken = self.take(phase)
        if taken is not None and taken.seconds > 2 * self.turn and self.count > ready.unit:
            wanted = round(self.count * self.turn / taken.seconds)
            self.count = self._whole(phase, max(1, wanted), ready.unit)

    def take(self, phase: str) -> Turn | None:
        """Take a turn; None if it has failed."""
        self._ask(Asked(phase, self.count))
        answer = self._answer()
        return answer if isinstance(answer, Turn) else None

    def time_layers(self) -> Layers:
        """Have the process trace a few steps, after all turns."""
        self._ask(Asked(LAYERS))
        answer = self._answer()
        return answer if isinstance(answer, Layers) else Layers({}, "its process has ended")

    def _whole(self, phase: str, count: int, unit: int) -> int:
        """Round a number of steps up to whole calls, and if there are many to whole lines of metrics."""
        log_every = self.config.train.log_every
        if phase == TRAIN and count > log_every and log_every % unit == 0:
            unit = log_every
        return -(-count // unit) * unit

    def _ask(self, asked: Asked) -> None:
        try:
            self.connection.send(asked)
        except OSError:
            self._note_death()

    def _answer(self) -> Answer:
        """Wait for an answer; one that has failed, or a process that has ended, is noted."""
        if self.failed is not None:
            return self.failed
        try:
            answer = self.connection.recv()
        except (EOFError, OSError):
            return self._note_death()
        if isinstance(answer, Failed):
            self.failed = answer
        return answer

    def _note_death(self) -> Failed:
        self.process.join(timeout=10)
        code = self.process.exitcode
        if code == -9:  # by the kernel
            self.failed = Failed("killed by signal 9: probably out of memory")
        else:
            self.failed = Failed(f"its process ended with exit code {code}")
        return self.failed


@contextmanager
def signals_held() -> Generator[None]:
    """Block Ctrl-C and SIGTERM in processes that are started meanwhile, also while they import.

    A signal to the whole group is this process's matter; one that comes meanwhile is handled at the end.
    """
    signals, came = (signal.SIGINT, signal.SIGTERM), []

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    # A handler, too: the signal may come to another thread, which does not block it.
    handlers = {number: signal.signal(number, note) for number in signals}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in came[:1]:
            signal.raise_signal(number)


def turn_seconds(sides: int, seconds: float) -> float:
    """Return the length of a turn with which so many sides take `FEWEST` rounds in some seconds."""
    return min(TURN, seconds / FEWEST / sides)


def take_turns(sides: Sequence[Side], phase: str, seconds: float) -> float:
    """Take turns until all ratios are precise, or the time is over; return the seconds of a round.

    There are at least `FEWEST` rounds. A side that fails leaves.
    """
    started = time.perf_counter()

    def is_over(rounds: int, known: Known) -> bool:
        is_late = time.perf_counter() - started >= seconds
        return rounds >= MOST_ROUNDS or (rounds >= FEWEST and (is_late or are_precise(known)))

    def turn_of(side: Side) -> TakeTurn:
        def take() -> float | None:
            turn = side.take(phase)
            return turn.seconds / turn.count if turn else None

        return take

    active = [side for side in sides if side.failed is None]
    turns = {side.name: turn_of(side) for side in active}
    rounds = alternate(turns, {side.name: side.seconds[phase] for side in active}, is_over)
    return (time.perf_counter() - started) / max(1, rounds)
