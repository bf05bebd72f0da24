"""The two-node Slurm test cluster of `slurm.sh`; its tests are skipped where it is not running."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from end_to_end.conftest import Workspace

SCRIPT = Path(__file__).with_name("slurm.sh")


class Cluster:
    """Commands of Slurm and of `slurm.sh`."""

    def __call__(self, *command: str) -> str:
        """Run a Slurm command and return its output."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def node(self, action: str, name: str) -> None:
        """Kill or revive a node."""
        subprocess.run([SCRIPT, action, name], check=True, timeout=300)

    def job(self, name: str) -> str:
        """Wait for the only job of this name in the queue; return its id."""
        return wait_until(
            lambda: self("squeue", "--noheader", "--array", f"--name={name}", "-o", "%i")
        )

    def state(self, job: str) -> str:
        """State of a job, as `squeue` names it."""
        told = subprocess.run(
            ["squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T"],
            capture_output=True,
            text=True,
            timeout=300,
        )
        return told.stdout.strip()

    def job_field(self, job: str, name: str) -> str:
        """Value of a field of `scontrol show job`."""
        told = self("scontrol", "show", "job", job)
        return told.partition(f"{name}=")[2].split()[0]


def wait_until(
    reached: Callable[[], Any], process: subprocess.Popen | None = None, deadline: float = 90.0
) -> Any:
    """Wait until `reached` returns something true, and return it; fail once `process` has ended."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        if answer := reached():
            return answer
        assert process is None or process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    raise AssertionError(f"not reached within {deadline} s")


def running_tasks() -> list[str]:
    """Command lines of all tasks of the cluster's jobs that still run."""
    lines = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"SLURMD_NODENAME=" in (folder / "environ").read_bytes():
                lines.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return [line for line in lines if line]


@pytest.fixture(scope="session")
def cluster():
    """The test cluster with both nodes idle."""
    told = subprocess.run([SCRIPT, "env"], capture_output=True, text=True, check=True).stdout
    name, _, value = told.strip().removeprefix("export ").partition("=")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name, value)
        if not shutil.which("sinfo") or subprocess.run(["sinfo"], capture_output=True).returncode:
            pytest.skip("no test cluster answers sinfo; start it with: make slurm")
        patch.setenv("OMP_NUM_THREADS", "1")
        yield Cluster()
        subprocess.run(["scancel", "--quiet", "--user", os.environ.get("USER", "root")])


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Folder in which the commands of a test file run."""
    return Workspace(tmp_path_factory.mktemp("workspace"))
