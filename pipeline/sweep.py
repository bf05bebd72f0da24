"""A sweep: each job a clean child process.

A job of its own process gets DDP right under `-m`, and keeps one framework's memory, seeds and
crashes away from the next job, whatever the launcher.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from pipeline.arguments import quoted, run_command
from pipeline.config import Config
from pipeline.explain import in_our_words
from pipeline.fork_server import Forked, ForkServerDied, fork_server
from pipeline.job_names import GROUP, NAME, SETTING, differing, setting_of
from pipeline.precheck import check_job
from pipeline.processes import tie
from pipeline.prospects import Fate, Prospect, prospect
from pipeline.runs import (
    RESULT,
    SWEEP,
    read_json,
    signature,
    this_process,
    write_json,
)
from pipeline.shares import Share, share
from pipeline.sharing import needs_processes
from pipeline.stop import stop
from pipeline.world import ALONE, find_world

Child = subprocess.Popen | Forked


def note_sweep(folder: Path, config: DictConfig) -> None:
    """Write what a sweep is made of, and that it goes on, for those who watch it."""
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, folder / "multirun.yaml")
    write_json(folder / SWEEP, this_process())


@dataclass(frozen=True)
class Work:
    """A job of a sweep, and what there is to do for it.

    Args:
        config: typed.
        folder: of the job.
        name: by what tells it from the others.
        hydra: Hydra's own config.
    """

    config: Config
    folder: Path
    name: str
    hydra: DictConfig

    @cached_property
    def prospect(self) -> Prospect:
        """What will become of it, as things stand when this is asked first."""
        return prospect(self.config, self.folder)

    @property
    def command(self) -> list[str]:
        """That does it."""
        return child_command(self.hydra, self.folder, self.prospect.fate is Fate.resumed)

    @property
    def environment(self) -> dict[str, str]:
        """What the command is told beside its arguments."""
        setting = setting_of(self.hydra.overrides.task)
        return {GROUP: Path(self.hydra.sweep.dir).name, NAME: self.name, SETTING: setting}

    def due(self) -> bool:
        """Whether there is anything to do; where not, it is told why."""
        if not self.prospect.runs:
            alone = ": left alone" if self.prospect.fate is Fate.running else ""
            self.tell(f"{self.prospect.words}{alone}")
        return self.prospect.runs

    def tell(self, text: str, file: Any = None) -> None:
        """Print a line about the job."""
        say(self.folder, self.name, text, file)


def work_of(composed: DictConfig, hydra: DictConfig) -> Work | None:
    """A job of a sweep, if its config is right; where not, it is told why.

    Args:
        composed: the config of the job.
        hydra: Hydra's own.
    """
    folder = Path(hydra.runtime.output_dir)
    name = " ".join(differing(hydra.overrides.task)) or f"job {hydra.job.num}"
    try:
        config = check_job(composed)
    except Exception as error:
        refused = {"name": name, "status": "failed", "error": str(in_our_words(error))}
        write_json(folder / RESULT, refused)
        say(folder, name, f"failed: {refused['error']}", file=sys.stderr)
        return None
    return Work(config, folder, name, hydra)


def run_child(composed: DictConfig, hydra: DictConfig) -> None:
    """Run one job of a sweep as a process of its own, if there is anything to do; tell how it ends.

    Args:
        composed: the config of the job.
        hydra: Hydra's own.
    """
    stop.listen()
    if stop.exit_code is not None:
        return
    work = work_of(composed, hydra)
    if work is None or not work.due():
        return
    jobs = hydra.launcher.get("n_jobs")
    with share(work.config, jobs, lambda: stop.exit_code is not None, work.tell) as part:
        if part is None:
            return
        child = start(work, part)
        if child is None:
            return
        code = wait(child)
    if code not in (0, 130, 143) and find_world().first:
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        note_crash(work, how)
        work.tell(f"failed: {error_of(work.folder)}", file=sys.stderr)


def say(folder: Path, name: str, text: str, file: Any = None) -> None:
    """Print a line about a job; of several processes that have it the first does."""
    if find_world().first:
        print(f"job {folder.name.partition('_')[0]} ({name}) {text}", file=file, flush=True)


def start(work: Work, part: Share) -> Child | None:
    """Start a job on its share of the machine, which is taken until the last of the two ends.

    Returns:
        The process; None if the sweep was stopped meanwhile.
    """
    environment = os.environ | work.environment | part.environment
    if is_forked(work.config):
        with suppress(ForkServerDied):  # a new process will find out why, and say so
            server = fork_server(work.config.backend.name, part.cores)
            if stop.exit_code is not None:
                return None
            return server.start(work.command, environment, part.cores, part.descriptors)
    return subprocess.Popen(
        work.command,
        env=environment,
        start_new_session=True,  # signals reach it once, from here
        preexec_fn=partial(tie, part.cores),
        pass_fds=part.descriptors,
    )


def is_forked(config: Config) -> bool:
    """Whether a job is forked by a process that has imported its backend.

    Not where this process has no other job, nor where all that the job does is to start the processes
    of a run.
    """
    return find_world().origin != "slurm" and not needs_processes(config, ALONE)


def wait(child: Child) -> int:
    """Wait for the child, passing a signal on to it."""
    passed_on = None
    while True:
        try:
            return child.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            if stop.signal not in (None, passed_on):
                passed_on = stop.signal
                child.send_signal(passed_on)


def child_command(hydra: DictConfig, folder: Path, resumed: bool) -> list[str]:
    """The same command for one job, in RUN mode in its own folder."""
    sources = [
        source for source in hydra.runtime.config_sources if source.provider == "command-line"
    ]
    directories = [f"--config-dir={source.path}" for source in sources]
    kept = [
        override
        for override in hydra.overrides.hydra
        if override.lstrip("+").startswith(
            ("hydra.searchpath", "hydra.verbose", "hydra/job_logging")
        )
    ]
    name = f"--config-name={hydra.job.config_name}"
    resume = [f"resume={quoted(folder)}"] if resumed else []
    return run_command([*directories, name, *hydra.overrides.task, *resume, *kept], folder)


def note_crash(work: Work, how: str) -> None:
    """Write the result of a job that had no time to do so itself."""
    result = read_json(work.folder / RESULT) or {
        "name": work.name,
        "signature": signature(work.config),
    }
    if result.get("status") not in ("completed", "failed"):
        write_json(work.folder / RESULT, result | {"status": "failed", "error": how})


def error_of(folder: Path) -> str:
    """The first line of a failed job's error."""
    return str((read_json(folder / RESULT) or {}).get("error")).partition("\n")[0]
