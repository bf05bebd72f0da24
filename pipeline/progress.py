"""What a run is doing, while it does it: a bar on a terminal, plain lines elsewhere."""

import logging
import os
import time
from collections.abc import Iterable, Mapping
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress
from rich.table import Column

from pipeline.config import require

log = logging.getLogger(__name__)

STYLES = ("plain", "bar", "none")
RATE = "perf/samples_per_second"


class Progress:
    """How far a run has come. `TANDEM_PROGRESS=plain|bar|none` overrides what the terminal says.

    `update` is cheap enough for every step of a fast loop: it renders a few times a second.

    Args:
        total: steps of the whole run.
        description: what runs, in a few words, such as `jax cnn on digits`.

    Raises:
        UserError: TANDEM_PROGRESS is something else.
    """

    def __init__(self, total: int, description: str) -> None:
        style = os.environ.get("TANDEM_PROGRESS", "bar" if Console().is_terminal else "plain")
        require(style in STYLES, "TANDEM_PROGRESS", style, f"one of {', '.join(STYLES)}")
        shown = {"plain": PlainLines, "bar": Bar, "none": View}[style]
        self._view = shown(total, description)
        self._log = LogLines(total, description)
        self._step = 0
        self._values: dict[str, float] = {}
        self._due = 0.0

    def start(self, step: int = 0) -> None:
        """Begin at `step`, which is above 0 where a run goes on from a checkpoint."""
        self._step = step
        self._due = time.monotonic() + self._view.every
        self._view.start(step)
        self._log.start(step)

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Tell of `step` and of values, if there are new ones; shown when it is time."""
        self._step = step
        self._values.update(values)
        now, evaluated = time.monotonic(), values and _is_evaluation(values)
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
        """Show the last step and leave the terminal as it was. Stopping twice is harmless."""
        self._view.stop(self._step, self._values)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Silence(Progress):
    """Of a process that leaves it to another to tell."""

    def __init__(self) -> None:
        self._view = self._log = View(0, "")
        self._step, self._values, self._due = 0, {}, 0.0


class View:
    """A way to show progress. The base shows nothing."""

    every = 10.0  # seconds between two shows, at least

    def __init__(self, total: int, description: str) -> None:
        self.total, self.description = total, description

    def start(self, step: int) -> None: ...

    def show(self, step: int, values: Mapping[str, float]) -> None: ...

    def message(self, text: str) -> None: ...

    def stop(self, step: int, values: Mapping[str, float]) -> None: ...


class PlainLines(View):
    """A line at each evaluation, every ten seconds and at the end: for pipes and clusters."""

    _shown: int | None = None  # the step of the last line; None: not running

    def start(self, step: int) -> None:
        if self._shown is None:
            self.message(f"{self.description}: step {step}/{self.total}")
        self._shown = step

    def show(self, step: int, values: Mapping[str, float]) -> None:
        self._shown = step
        self.message("  ".join([f"step {step}/{self.total}", *_words(values)]))

    def message(self, text: str) -> None:
        print(text, flush=True)

    def stop(self, step: int, values: Mapping[str, float]) -> None:
        if self._shown not in (None, step):
            self.show(step, values)
        self._shown = None


class LogLines(PlainLines):
    """A line at each evaluation in run.log, whatever the terminal shows."""

    def message(self, text: str) -> None:
        log.info(text)


class Bar(View):
    """A bar that stays at the bottom of the terminal.

    It is drawn from `show`, not by a thread: a thread would contend with the loop for the
    interpreter and would not survive a fork.
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
            # All of it in 80 columns: the rest is in the lines of run.log.
            TextColumn("{task.fields[words]}", markup=False, table_column=Column(no_wrap=True)),
            auto_refresh=False,
        )
        self._task = None

    def start(self, step: int) -> None:
        if self._task is None:
            self._task = self._rich.add_task(
                self.description, total=self.total, completed=step, rate="", words=""
            )
        self._rich.start()

    def show(self, step: int, values: Mapping[str, float]) -> None:
        speed = self._rich.tasks[self._task].speed
        self._rich.update(
            self._task,
            completed=step,
            rate=f"{speed:.0f}/s" if speed else "",
            words="  ".join(_glance(values)),
            refresh=True,
        )

    def message(self, text: str) -> None:
        self._rich.console.print(text, markup=False, highlight=False)

    def stop(self, step: int, values: Mapping[str, float]) -> None:
        if self._rich.live.is_started:
            self.show(step, values)
            self._rich.stop()


def _is_evaluation(keys: Iterable[str]) -> bool:
    return any(key.startswith(("val/", "test/")) for key in keys)


def _glance(values: Mapping[str, float]) -> list[str]:
    """The training loss, and the metric of the last evaluation that people look at first."""
    shown = {"loss": "train/loss", "val": "val/accuracy", "mse": "val/mse"}
    return [f"{word} {values[key]:.4g}" for word, key in shown.items() if key in values]


def _words(values: Mapping[str, float]) -> list[str]:
    """What is worth a glance: the loss, the last evaluation and the speed."""
    shown = [key for key in values if key == "train/loss" or _is_evaluation([key])]
    words = [f"{key} {values[key]:.4g}" for key in shown]
    if RATE in values:
        words.append(f"{values[RATE]:.0f} samples/s")
    return words
