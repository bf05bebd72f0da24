"""Progress of several runs that train at once: one display, and the lines of each in its own run.log."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.loggers.progress import PlainLines, Progress, View, is_evaluation


class SharedProgress(Progress):
    """One display for all `runs`; it shows the values of whichever comes first to a step.

    A message that several give one after the other is one line.
    """

    def __init__(self, total: int, description: str, runs: int) -> None:
        super().__init__(total, description)
        self._log = View(total, description)
        self.total, self.runs = total, runs
        self._last = (-1, False)  # step that is shown, and whether its evaluation is
        self._text, self._names = "", []  # a message that waits for the other runs

    def offer(self, step: int, values: Mapping[str, float]) -> None:
        """Show values, unless another run has shown those of this step."""
        self.flush()
        if (step, is_evaluation(values)) > self._last:
            self._last = step, is_evaluation(values)
            self.update(step, values)

    def note(self, name: str, text: str) -> None:
        """Print a message of a run, together with those of others that have the same."""
        if text != self._text or name in self._names:
            self.flush()
        self._text = text
        self._names.append(name)
        if len(self._names) == self.runs:
            self.flush()

    def flush(self) -> None:
        """Print the message that waits for other runs, with the names of those that have it."""
        names, self._names = self._names, []
        if not names:
            return
        whose = "each run" if len(names) == self.runs else f"{len(names)} of {self.runs} runs"
        self.message(f"{names[0] if len(names) == 1 else whose}: {self._text}")

    def stop(self) -> None:
        """Show the last step and restore the terminal."""
        self.flush()
        super().stop()


class MemberProgress(Progress):
    """Progress of one of the runs, called `name` in messages; `folder` is its own."""

    def __init__(self, shared: SharedProgress, name: str, folder: Path) -> None:
        self._shared, self._name = shared, name
        self._view, self._log = View(shared.total, name), _FileLines(shared.total, name)
        self._log.file = folder / "run.log"
        self._step, self._values, self._due = 0, {}, 0.0

    def start(self, step: int = 0) -> None:
        """Begin at `step`."""
        super().start(step)
        self._shared.start(step)

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Note `step` and new values in run.log, and offer them to the display."""
        super().update(step, values)
        self._shared.offer(step, values)

    def message(self, text: str) -> None:
        """Note a line in run.log, and print it, once for all runs that have it."""
        self._log.message(text)
        self._shared.note(self._name, text)


class _FileLines(PlainLines):
    """A line at each evaluation in a file."""

    file = Path()

    def message(self, text: str) -> None:
        with self.file.open("a") as log:
            log.write(f"{text}\n")
