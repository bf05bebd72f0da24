"""Clock of a run: its seconds by phase."""

import time
from collections.abc import Mapping

from pipeline.storage.recorder_state import PHASES


class Stopwatch:
    """Measures the seconds of a run by phase; time between an interruption and a resume is left out.

    Attributes:
        seconds: spent in each of `PHASES`.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self._started = self._lap_started = self._paused_at = time.perf_counter()
        self._before = 0.0  # seconds of the run before it was resumed
        self._away = 0.0  # seconds of this lap that were not training
        self._suspended_at: float | None = None

    @property
    def elapsed(self) -> float:
        """Seconds of the run so far, set-up and compilation included."""
        return self._before + self.part

    @property
    def part(self) -> float:
        """Seconds since the run was started or resumed."""
        now = time.perf_counter() if self._suspended_at is None else self._suspended_at
        return now - self._started

    def suspend(self) -> None:
        """Leave the time from now on out of `part`: only others go on that train at once with the run."""
        if self._suspended_at is None:
            self._suspended_at = time.perf_counter()

    def proceed(self) -> None:
        """Count again, if the run was suspended."""
        if self._suspended_at is not None:
            self._started += time.perf_counter() - self._suspended_at
            self._suspended_at = None

    def end_setup(self) -> None:
        """Count the time since the start as set-up."""
        self.seconds["setup"] += self.part

    def move(self, seconds: float, source: str, phase: str) -> None:
        """Count seconds of one phase as another."""
        self.seconds[source] -= seconds
        self.seconds[phase] += seconds

    def start_lap(self) -> None:
        """Start to measure training."""
        self._away, self._lap_started = 0.0, time.perf_counter()

    def end_lap(self) -> float:
        """Return the seconds of training since `start_lap`."""
        passed = time.perf_counter() - self._lap_started - self._away
        self.seconds["train"] += passed
        return passed

    def pause(self) -> None:
        """Stop timing the training: another phase begins."""
        self._paused_at = time.perf_counter()

    def resume(self, phase: str) -> None:
        """Continue training; count the time since `pause` as `phase`."""
        passed = time.perf_counter() - self._paused_at
        self._away += passed
        self.seconds[phase] += passed

    def restore(self, seconds: Mapping[str, float], elapsed: float | None) -> None:
        """Continue from a checkpoint; without `elapsed` use the sum of its phases."""
        self.seconds = dict.fromkeys(PHASES, 0.0) | dict(seconds)
        self._before = sum(self.seconds.values()) if elapsed is None else elapsed
