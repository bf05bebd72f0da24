"""Which jobs a sweep has, and what will become of each: composed, checked and told before any starts."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.arguments import quoted
from pipeline.composer import Composer
from pipeline.errors import UserError
from pipeline.explain import in_our_words
from pipeline.job_names import differing, job_folder
from pipeline.prospects import Fate, Prospect, place, prospect, recognisable
from pipeline.runs import IDENTITY, RESULT, read_json, signature, write_json
from pipeline.stop import SWEEPER, stop
from pipeline.sweep import note_sweep

SUBFOLDER = "hydra.sweep.subdir="


@dataclass(frozen=True)
class Planned:
    """A job before the sweep.

    Args:
        number: in the sweep.
        overrides: that it is made of.
        folder: where it has its place.
        prospect: what will become of it; None where it does not run.
        reason: why it does not.
    """

    number: int
    overrides: Sequence[str]
    folder: Path
    prospect: Prospect | None = None
    reason: Exception | str = ""

    @property
    def name(self) -> str:
        """What people call it."""
        return " ".join(differing(self.overrides)) or f"job {self.number}"

    @property
    def refused(self) -> bool:
        """Whether its config is wrong."""
        return isinstance(self.reason, Exception)

    @property
    def is_open(self) -> bool:
        """Whether there is anything to do, or to wait for."""
        return self.prospect is not None and not self.prospect.over

    @property
    def words(self) -> str:
        """What will become of it."""
        if self.prospect:
            return self.prospect.words
        return "is refused" if self.refused else str(self.reason)


class Sweeper(BasicSweeper):
    """Hydra's sweeper over all combinations, of which only those are launched that are not over."""

    def sweep(self, arguments: list[str]) -> None:
        """Tell what will become of each job, then launch those that are not over.

        One that is running is launched, too: the launcher knows whether it can be waited for.

        Raises:
            UserError: no job can run.
            SystemExit: `sweep.dry_run=true`; 1 where a job is refused.
        """
        folder = Path(self.config.hydra.sweep.dir)
        self.refuse_subfolder()
        jobs = list(self.planned(arguments, folder))
        refused = [job for job in jobs if job.refused]
        if len(refused) == len(jobs):
            raise refused[0].reason
        tell(jobs, folder, always=self.config.sweep.dry_run)
        for job in refused:
            print(
                f"job {job.number} ({job.name}) failed: {in_our_words(job.reason)}", file=sys.stderr
            )
        if self.config.sweep.dry_run:
            raise SystemExit(1 if refused else 0)
        note_sweep(folder, self.config)
        note_refusals(refused, folder)
        self.launch([job for job in jobs if job.is_open])

    def refuse_subfolder(self) -> None:
        """Refuse folders of jobs that the user names: by its folder a job is known again."""
        for override in self.config.hydra.overrides.hydra:
            if override.startswith(SUBFOLDER):
                key, _, value = override.partition("=")
                raise UserError(key, value, "left out", "Name the sweep: name=NAME.")

    def planned(self, arguments: list[str], folder: Path) -> Iterator[Planned]:
        """The jobs, in order."""
        parser = OverridesParser.create(self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        composer = Composer(self.hydra_context.config_loader, self.config)
        [combinations] = self.split_arguments(overrides, None)
        seen: dict[str, int] = {}
        for number, job in enumerate(combinations):
            name = job_folder(number, job)
            try:
                config = composer.config(job)
            except Exception as error:
                yield Planned(number, job, place(folder, name, None), reason=error)
                continue
            there = place(folder, name, config)
            first = seen.setdefault(signature(config), number) if recognisable(config) else number
            if first != number:
                yield Planned(number, job, there, reason=f"is the same as job {first}")
            else:
                yield Planned(number, job, there, prospect(config, there))

    def launch(self, jobs: Sequence[Planned]) -> None:
        """Hand the jobs to the launcher, each with its folder."""
        batches = self.split_overrides_to_chunks(jobs, self.max_batch_size or len(jobs) or 1)
        first = 0
        for batch in batches:
            given = [[*job.overrides, f"{SUBFOLDER}{quoted(job.folder.name)}"] for job in batch]
            launched(self.launcher, self.config, given, first)
            first += len(batch)


def launched(
    launcher: Launcher, sweep: DictConfig, jobs: Sequence[Sequence[str]], first: int
) -> list[float | None]:
    """How good some jobs were; nothing, where the sweep was stopped before they had all begun.

    Args:
        launcher: runs them.
        sweep: config of the sweep.
        jobs: the overrides of each.
        first: number of the first; the others follow.

    Raises:
        Exception: what a job raised.
    """
    side_by_side = "n_jobs" in sweep.hydra.launcher
    if side_by_side:
        stop.passes_on = True
        stop.listen()
    os.environ[SWEEPER] = str(os.getpid())
    try:
        return [job.return_value for job in launcher.launch(jobs, initial_job_idx=first)]
    except Exception:
        if side_by_side and stop.exit_code is not None:
            return []  # a worker that had no job yet was stopped, too
        raise


def tell(jobs: Sequence[Planned], folder: Path, always: bool) -> None:
    """Print what will become of each job; of a sweep that is all new only how many there are."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 200  # a file has no edge to wrap at
    console.print(f"sweep of {len(jobs)} jobs  →  {escape(str(folder))}", soft_wrap=True)
    if not always and all(job.prospect and job.prospect.fate is Fate.new for job in jobs):
        return
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for job in jobs:
        colour = "red" if job.refused else "green" if job.is_open else "dim"
        table.add_row(str(job.number), escape(job.name), f"[{colour}]{escape(job.words)}[/]")
    console.print(table)


def note_refusals(refused: Sequence[Planned], folder: Path) -> None:
    """Write the results of jobs that cannot run, in place of those of the command before."""
    for file in folder.glob(f"*/{RESULT}"):
        if "refused" in (read_json(file) or {}) and not (file.parent / IDENTITY).exists():
            file.unlink()
            if not any(file.parent.iterdir()):
                file.parent.rmdir()
    for job in refused:
        job.folder.mkdir(exist_ok=True)
        result = {"name": job.name, "status": "failed", "error": str(in_our_words(job.reason))}
        write_json(job.folder / RESULT, result | {"refused": True})
