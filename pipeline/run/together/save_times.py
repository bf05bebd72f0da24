"""Times at which runs that train at once are saved, so that saving takes a small part of the time."""

import time
from collections.abc import Generator
from contextlib import contextmanager

PART = 0.05  # of the time since the last save
EXPECTED = 0.03  # seconds that a save of one small run takes, before one is measured


class SaveTimes:
    """Decides after an evaluation whether all runs are saved: soon for small ones, later the longer it takes.

    Runs that are killed lose at most 20 times what a save takes, or the time to the next evaluation.
    """

    def __init__(self, runs: int) -> None:
        self.seconds = EXPECTED * runs  # of a save of all runs
        self.ended = time.monotonic()  # of the last save

    @property
    def is_due(self) -> bool:
        """True if enough time has passed since the last save, or since the start."""
        return time.monotonic() - self.ended >= self.seconds / PART

    @contextmanager
    def saving(self) -> Generator[None]:
        """Measure a save of all runs."""
        began = time.monotonic()
        yield
        self.ended = time.monotonic()
        self.seconds = self.ended - began
