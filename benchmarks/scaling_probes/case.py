"""A case: one kind of work, measured at several sizes."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

Values = Mapping[str, float]  # by column


@dataclass(frozen=True)
class Case:
    """One kind of work at several sizes; a command does it, or `measure` in a process of its own.

    Attributes:
        unit: what the sizes count; those of `quick` are for the test suite, none leaves the case out.
        about: what is measured, as one paragraph of Markdown.
        prepare: makes what the work needs in a folder, in another process.
        command: arguments of the command that is measured.
        measure: does the work, and returns the values of columns.
        after: reads the values of more columns from the folder.
    """

    name: str
    heading: str
    unit: str
    about: str
    sizes: Sequence[int]
    quick: Sequence[int] = ()
    prepare: Callable[[int, Path], None] | None = None
    command: Callable[[int, Path], Sequence[str]] | None = None
    measure: Callable[[int, Path], Values] | None = None
    after: Callable[[Path], Values] | None = None

    def arguments(self, size: int, folder: Path) -> list[str]:
        """Return the command whose process is measured."""
        if self.command:
            return [sys.executable, *self.command(size, folder)]
        return self.worker("--measure", size, folder)

    def worker(self, task: str, size: int, folder: Path) -> list[str]:
        """Return the command of a process that prepares or measures."""
        script = str(ROOT / "benchmarks" / "scaling.py")
        return [sys.executable, script, task, self.name, str(size), str(folder)]
