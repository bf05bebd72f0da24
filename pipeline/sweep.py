"""A sweep: each job a clean child process, and the comparison at the end.

A job of its own process gets DDP right under `-m`, and keeps one framework's memory, seeds and
crashes away from the next job, whatever the launcher.
"""

import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from pipeline.interruption import Interruption
from pipeline.runs import RESULT, irrelevant, read_json, write_json

# How a sweep tells its jobs who they are.
GROUP, NAME, SWEPT = "TANDEM_GROUP", "TANDEM_JOB", "TANDEM_SWEPT"

SIGNAL_PARENT_DIED = 1  # PR_SET_PDEATHSIG, linux/prctl.h

_stopped: int | None = None  # exit code of the interruption that ended the sweep


def swept_keys(arguments: Sequence[str]) -> list[str]:
    """The keys that differ between the jobs of a sweep."""
    overrides = [argument for argument in arguments if "=" in argument and argument[0] != "-"]
    parsed = OverridesParser.create().parse_overrides(overrides)
    return [override.key_or_group for override in parsed if override.is_sweep_override()]


def differing(overrides: Sequence[str]) -> list[str]:
    """Those overrides of a job that differ between jobs; where a sweeper chose them, all that matter."""
    swept = [key for key in os.environ.get(SWEPT, "").split(",") if key]
    keys = {override: override.partition("=")[0].lstrip("+") for override in overrides}
    chosen = [override for override in overrides if keys[override] in swept]
    return chosen or [override for override in overrides if not irrelevant(keys[override])]


def job_folder(number: int, overrides: Sequence[str]) -> str:
    """A job's folder in its sweep: unique by its number, readable by what differs."""
    words = re.sub(r"[^\w.=+-]+", "-", "_".join(differing(overrides)))
    return f"{number}_{words[:120]}".rstrip("_")


OmegaConf.register_new_resolver("job_folder", job_folder, replace=True)


def run_child(hydra: DictConfig) -> int:
    """Run one job of a sweep as a process of its own; tell at once if it fails.

    Args:
        hydra: Hydra's own config of the job.

    Returns:
        The exit code of the job.
    """
    global _stopped
    folder = Path(hydra.runtime.output_dir)
    name = " ".join(differing(hydra.overrides.task)) or f"job {hydra.job.num}"
    if _stopped is not None:
        return _stopped
    environment = os.environ | {GROUP: Path(hydra.sweep.dir).name, NAME: name}
    with Interruption() as interruption:
        child = subprocess.Popen(
            child_command(hydra, folder),
            env=environment,
            start_new_session=True,  # signals reach it once, from here
            preexec_fn=die_with_parent,
        )
        code = wait(child, interruption)
        if interruption.exit_code is not None:
            _stopped = interruption.exit_code
    if code not in (0, 130, 143):
        note_crash(folder, name, code)
        print(f"job {hydra.job.num} ({name}) failed: {error_of(folder)}", file=sys.stderr)
    return code


def wait(child: subprocess.Popen, interruption: Interruption) -> int:
    """Wait for the child, passing a signal on to it."""
    passed_on = False
    while True:
        try:
            return child.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            if interruption.exit_code is not None and not passed_on:
                child.send_signal(
                    signal.SIGINT if interruption.exit_code == 130 else signal.SIGTERM
                )
                passed_on = True


def child_command(hydra: DictConfig, folder: Path) -> list[str]:
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
    quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
    return [
        sys.executable,
        str(Path(__file__).resolve().parent.parent / "run.py"),
        *directories,
        f"--config-name={hydra.job.config_name}",
        *hydra.overrides.task,
        *kept,
        "hydra.mode=RUN",
        f"hydra.run.dir='{quoted}'",
    ]


def die_with_parent() -> None:
    """Ask the kernel to end this process when the sweep dies without a word (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(SIGNAL_PARENT_DIED, signal.SIGTERM)


def note_crash(folder: Path, name: str, code: int) -> None:
    """Write the result of a job that had no time to do so itself."""
    result = read_json(folder / RESULT) or {"name": name}
    if result.get("status") not in ("completed", "failed"):
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        write_json(folder / RESULT, result | {"status": "failed", "error": how})


def error_of(folder: Path) -> str:
    """The first line of a failed job's error."""
    return str((read_json(folder / RESULT) or {}).get("error")).partition("\n")[0]


class Comparison(Callback):
    """Hydra's callback that ends a sweep with the table of its jobs and the right exit code."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Print the comparison.

        Raises:
            SystemExit: a job failed (1) or the sweep was interrupted (130, 143).
        """
        from pipeline.compare import compare

        results = compare([Path(config.hydra.sweep.dir)])
        if _stopped is not None:
            raise SystemExit(_stopped)
        statuses = {result["status"] for result in results}
        if statuses - {"completed"}:
            raise SystemExit(1 if "failed" in statuses else 130)
