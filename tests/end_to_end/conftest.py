"""Real runs of run.py, as a user starts them: child processes in a folder of their own."""

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

import numpy as np
import psutil
import pytest

from pipeline.predictions import read_predictions

RUN = Path(__file__).parents[2] / "run.py"


def jobs(sweep: subprocess.Popen) -> list[psutil.Process]:
    """The jobs that a sweep is running, apart from what it has started to start them."""
    found = []
    for process in psutil.Process(sweep.pid).children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            if "hydra.mode=RUN" in process.cmdline():
                found.append(process)
    return found


@dataclass(frozen=True)
class Finished:
    """What came of a command."""

    code: int
    output: str


@dataclass(frozen=True)
class Workspace:
    """A folder to run commands in; outputs/ lies below it."""

    path: Path

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen:
        """Start run.py and go on."""
        plain = {"TANDEM_PROGRESS": "plain", "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
        # Tests side by side do not wait for each other's cores.
        plain["TANDEM_LEASES"] = str(self.path / ".leases")
        return subprocess.Popen(
            [sys.executable, str(RUN), *arguments],
            cwd=self.path,
            env=os.environ | plain | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str, **environment: str) -> Finished:
        """Run run.py to its end."""
        process = self.start(*arguments, **environment)
        output, _ = process.communicate(timeout=300)
        return Finished(process.returncode, output)

    def run_until(
        self, reached: Callable[[], bool], sent: signal.Signals, *arguments: str
    ) -> Finished:
        """Run run.py and send it a signal once something is reached."""
        process = self.start(*arguments)
        while not reached() and process.poll() is None:
            time.sleep(0.005)
        assert process.poll() is None, f"it ended too early: {process.communicate()[0]}"
        process.send_signal(sent)
        output, _ = process.communicate(timeout=300)
        return Finished(process.returncode, output)

    def rows(self, run: str) -> list[dict]:
        """The lines of a run's metrics.jsonl, without those that tell of time and memory."""
        file = self.path / run / "metrics.jsonl"
        lines = file.read_text().splitlines() if file.exists() else []
        rows = [json.loads(line) for line in lines if line.endswith("}")]
        return [
            {key: value for key, value in row.items() if not key.startswith("perf/")}
            for row in rows
        ]

    def result(self, run: str) -> dict:
        """A run's result.json."""
        return json.loads((self.path / run / "result.json").read_text())

    def assert_predictions_alike(self, run: str, expected: str) -> None:
        """Two runs have said the same of each sample of the test set, losses within 1e-10."""
        ours, theirs = (read_predictions(self.path / name) for name in (run, expected))
        for name in ("target", "predicted", "worst", "worst_images"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
        for name in ("loss", "confidence"):
            np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), rtol=1e-10)

    def step(self, run: str) -> int:
        """The last step that a run has logged."""
        rows = self.rows(run)
        return rows[-1]["step"] if rows else 0


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A folder for the commands of a test file."""
    return Workspace(tmp_path_factory.mktemp("workspace"))
