"""Runs of run.py as a user starts them: child processes in a separate folder."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import warm_start
from asserts import without_perf

from pipeline.storage.predictions import Predictions, read_predictions

RUN = Path(__file__).parents[2] / "run.py"


def jobs(sweep: subprocess.Popen) -> list[psutil.Process]:
    """Job processes of a running sweep, without the fork servers that start them."""
    found = []
    for process in psutil.Process(sweep.pid).children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            if "hydra.mode=RUN" in process.cmdline():
                found.append(process)
    return found


@dataclass(frozen=True)
class Finished:
    """Exit code and output of a command."""

    code: int
    output: str


@dataclass(frozen=True)
class Workspace:
    """Folder in which commands run, with outputs/ below it."""

    path: Path

    def start(
        self, *arguments: str, cold: bool = False, **environment: str
    ) -> subprocess.Popen | warm_start.Process:
        """Start run.py in the background; `cold` in a new process instead of a forked one."""
        plain = {"TANDEM_PROGRESS": "plain", "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
        # Tests side by side do not wait for each other's cores.
        plain["TANDEM_LOCKS"] = str(self.path / ".locks")
        return warm_start.popen(
            [sys.executable, str(RUN), *arguments],
            cwd=self.path,
            env=os.environ | plain | environment,
            cold=cold,
        )

    def run(
        self, *arguments: str, code: int | None = None, cold: bool = False, **environment: str
    ) -> Finished:
        """Run run.py to its end, and check its exit code if `code` is given."""
        process = self.start(*arguments, cold=cold, **environment)
        output, _ = process.communicate(timeout=300)
        assert code in (None, process.returncode), f"exit code {process.returncode}: {output}"
        return Finished(process.returncode, output)

    def run_until(
        self, reached: Callable[[], bool], sent: signal.Signals, *arguments: str
    ) -> Finished:
        """Run run.py and send it a signal once `reached` returns True."""
        process = self.start(*arguments)
        while not reached() and process.poll() is None:
            time.sleep(0.005)
        assert process.poll() is None, f"it ended too early: {process.communicate()[0]}"
        process.send_signal(sent)
        output, _ = process.communicate(timeout=300)
        return Finished(process.returncode, output)

    def rows(self, run: str) -> list[dict]:
        """Rows of a run's metrics.jsonl without time and memory."""
        file = self.path / run / "metrics.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        return without_perf([json.loads(line) for line in lines if line.endswith("}")])

    def result(self, run: str) -> dict:
        """Content of a run's result.json."""
        return json.loads((self.path / run / "result.json").read_text())

    def jobs(self, sweep: str) -> list[str]:
        """Names of the job folders of a sweep."""
        return sorted(path.name for path in (self.path / "outputs" / sweep).glob("[0-9]*_*"))

    def predictions(self, run: str) -> Predictions:
        """Predictions of a run for the test set."""
        found = read_predictions(self.path / run)
        assert found is not None
        return found

    def step(self, run: str) -> int:
        """Last step that a run has logged; 0 before the first."""
        rows = self.rows(run)
        return rows[-1]["step"] if rows else 0


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Folder in which the commands of a test file run."""
    return Workspace(tmp_path_factory.mktemp("workspace"))
