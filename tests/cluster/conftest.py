"""The two-node Slurm of `slurm.sh`, if it is running, and what tests do with it."""

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
    """The commands of Slurm that tests give, and those of `slurm.sh`."""

    def __call__(self, *command: str) -> str:
        """Run a command of Slurm; what it prints."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def node(self, action: str, name: str) -> None:
        """Kill or revive a node."""
        subprocess.run([SCRIPT, action, name], check=True, timeout=60)

    def job(self, name: str) -> str:
        """The number of the one job of this name in the queue, once there is one."""
        return until(lambda: self("squeue", "--noheader", "--array", f"--name={name}", "-o", "%i"))

    def state(self, job: str) -> str:
        """Of a job, in Slurm's word."""
        told = subprocess.run(
            ["squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T"],
            capture_output=True,
            text=True,
            timeout=60,
        )
        return told.stdout.strip()

    def fact(self, job: str, name: str) -> str:
        """What `scontrol show job` says under a name."""
        told = self("scontrol", "show", "job", job)
        return told.partition(f"{name}=")[2].split()[0]


def until(
    reached: Callable[[], Any], process: subprocess.Popen | None = None, deadline: float = 90.0
) -> Any:
    """What a question is answered with, once that is something; not when a process has ended."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        if answer := reached():
            return answer
        assert process is None or process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    raise AssertionError(f"not reached within {deadline} s")


def processes() -> list[str]:
    """The command lines of all tasks that the cluster's jobs have left running."""
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
    """The test cluster, both of its nodes idle."""
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
    """A folder for the commands of a test file."""
    return Workspace(tmp_path_factory.mktemp("workspace"))
