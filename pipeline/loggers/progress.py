"""Progress display of a run: a bar on a terminal, plain lines elsewhere."""

import logging
import os
import time
from collections.abc import Iterable, Mapping
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Column

from pipeline.config.fields import require

log = logging.getLogger(__name__)


class Progress:
    """Progress of a run; `TANDEM_PROGRESS=plain|bar|none` overrides the style that fits the terminal.

    `update` is cheap enough to call at every step: it renders a few times a second at most. `total` is
    the number of steps of the whole run, `description` a short text such as `jax cnn on digits`.
    """

    def __init__(self, total: int, description: str) -> None:
        style = os.environ.get("TANDEM_PROGRESS", "bar" if Console().is_terminal else "plain")
        require(style in STYLES, "TANDEM_PROGRESS", style, f"one of {', '.join(STYLES)}")
        self._view = STYLES[style](total, description)
        self._log: View = LogLines(total, description)
        self._step = 0
        self._values: dict[str, float] = {}
        self._due = 0.0

    def start(self, step: int = 0) -> None:
        """Begin at `step`, which is above 0 if the run resumes from a checkpoint."""
        self._step = step
        self._due = time.monotonic() + self._view.every
        self._view.start(step)
        self._log.start(step)

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Record `step` and new values; show them at evaluations and at regular intervals."""
        self._step = step
        self._values.update(values)
        now, evaluated = time.monotonic(), values and is_evaluation(values)
        if now >= self._due or evaluated:
            self._due = now + self._view.every
            self._view.show(step, self._values)
        if evaluated:
            self._log.show(step, self._values)

    def message(self, text: str) -> None:
        """Print a line, above the bar if there is one."""
        self._view.message(text)
        self._log.message(text)

    def stop(self) -> None:
        """Show the last step and restore the terminal; a second call has no effect."""
        self._view.stop(self._step, self._values)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class NoProgress(Progress):
    """Progress that shows nothing, for all ranks except rank 0."""

    def __init__(self) -> None:
        self._view = self._log = View(0, "")
        self._step, self._values, self._due = 0, {}, 0.0


class View:
    """Style of the display; the base class shows nothing."""

    every = 10.0  # seconds between two updates, at least

    def __init__(self, total: int, description: str) -> None:
        self.total, self.description = total, description

    def start(self, step: int) -> None: ...

    def show(self, step: int, values: Mapping[str, float]) -> None: ...

    def message(self, text: str) -> None: ...

    def stop(self, step: int, values: Mapping[str, float]) -> None: ...


class PlainLines(View):
    """A line at each evaluation, every ten seconds and at the end, for pipes and clusters."""

    _shown: int | None = None  # step of the last line; None if not running

    def start(self, step: int) -> None:
        if self._shown is None:
            self.message(f"{self.description}: step {step}/{self.total}")
        self._shown = step

    def show(self, step: int, values: Mapping[str, float]) -> None:
        self._shown = step
        keys = [key for key in values if key == "train/loss" or is_evaluation([key])]
        words = [f"step {step}/{self.total}", *(f"{key} {values[key]:.4g}" for key in keys)]
        if (rate := values.get("perf/samples_per_second")) is not None:
            words.append(f"{rate:.0f} samples/s")
        self.message("  ".join(words))

    def message(self, text: str) -> None:
        print(text, flush=True)

    def stop(self, step: int, values: Mapping[str, float]) -> None:
        if self._shown not in (None, step):
            self.show(step, values)
        self._shown = None


class LogLines(PlainLines):
    """A line at each evaluation in run.log, with any style on the terminal."""

    def message(self, text: str) -> None:
        log.info(text)


class Bar(View):
    """Progress bar at the bottom of the terminal.

    `show` draws it, not a thread, which would compete with the training loop for the GIL and would not
    survive a fork.
    """

    every = 0.2

    def __init__(self, total: int, description: str) -> None:
        super().__init__(total, description)
        self._rich = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            # Fits into 80 columns; run.log has the other values.
            TextColumn("{task.fields[words]}", markup=False, table_column=Column(no_wrap=True)),
            auto_refresh=False,
        )

    def start(self, step: int) -> None:
        if not self._rich.tasks:
            self._rich.add_task(
                self.description, total=self.total, completed=step, rate="", words=""
            )
        self._rich.start()

    def show(self, step: int, values: Mapping[str, float]) -> None:
        task = self._rich.tasks[0]
        shown = ("loss", "train/loss"), ("val", "val/accuracy"), ("mse", "val/mse")
        self._rich.update(
            task.id,
            completed=step,
            rate=f"{task.speed:.0f}/s" if task.speed else "",
            words="  ".join(f"{word} {values[key]:.4g}" for word, key in shown if key in values),
            refresh=True,
        )

    def message(self, text: str) -> None:
        self._rich.console.print(text, markup=False, highlight=False)

    def stop(self, step: int, values: Mapping[str, float]) -> None:
        if self._rich.live.is_started:
            self.show(step, values)
            self._rich.stop()


STYLES: dict[str, type[View]] = {"plain": PlainLines, "bar": Bar, "none": View}


def is_evaluation(keys: Iterable[str]) -> bool:
    """Return whether these are the values of an evaluation."""
    return any(key.startswith(("val/", "test/")) for key in keys)
