"""Ranks of one run start and end together: when one is killed, fails or is asked to stop."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

# Two processes of torch, long enough to be met on their way by a busy machine.
TWO = (
    "backend=torch", "accelerator=cpu", "accelerator.devices=2", "model=mlp", "logger=none",
    "train.steps=300", "train.accumulate=2", "train.eval_every=50steps", "train.precision=fp64",
)  # fmt: skip


def ranks(name):
    """Process ids of the ranks of a run, by rank, which is the order of their start."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = re.split("[\0 ]", (folder / "cmdline").read_text(errors="replace"))
            _, parent, *fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (OSError, ProcessLookupError):
            continue
        if f"name={name}" in words and "hydra.mode=RUN" in words:
            found[int(folder.name)] = int(parent), int(fields[17])
    # A rank's own child, a fork with its command line, may have started before the next rank.
    started = {process: time for process, (parent, time) in found.items() if parent not in found}
    return dict(enumerate(sorted(started, key=lambda process: (started[process], process))))


def started(workspace, name, *arguments, cold=False):
    """Start a run in two processes; return it once it has logged some steps."""
    process = workspace.start(*TWO, f"name={name}", *arguments, cold=cold)
    deadline = time.monotonic() + 300
    while workspace.step(f"outputs/{name}") < 20:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "it does not get going"
        time.sleep(0.05)
    return process


def output_of(process):
    """Output of a command, once it has ended."""
    output, _ = process.communicate(timeout=300)
    return output


@pytest.fixture(scope="module")
def whole(workspace):
    """Rows of the run without interruption."""
    workspace.run(*TWO, "name=whole", code=0)
    return workspace.rows("outputs/whole")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_is_named_and_ends_all_processes(workspace, rank):
    name = f"killed-{rank}"
    process = started(workspace, name, "train.steps=100000")
    os.kill(ranks(name)[rank], signal.SIGKILL)
    output = output_of(process)
    assert process.returncode == 1
    assert f"error: rank {rank} of 2 was killed by SIGKILL" in output
    result = workspace.result(f"outputs/{name}")
    assert result["status"] == "failed"
    assert result["error"] == f"rank {rank} of 2 was killed by SIGKILL"
    assert ranks(name) == {}


def test_the_reported_error_is_that_of_the_rank_that_failed_first(workspace):
    (workspace.path / "failing.py").write_text(FAILING)
    process = workspace.start(
        *TWO, "model=own", "model.torch=failing:Net", "model.jax=failing:Net", "name=failing",
        PYTHONPATH=str(workspace.path),
    )  # fmt: skip
    output = output_of(process)
    assert process.returncode == 1
    said = (
        "it fails: RuntimeError: out of luck in batch 30 (failing.py, line 15). It is called with"
    )
    assert f"error: rank 1 of 2 failed: model.torch=failing:Net: {said}" in output
    assert said in workspace.result("outputs/failing")["error"]
    assert ranks("failing") == {}


FAILING = """
import os
import torch

class Net(torch.nn.Module):
    batches = 0

    def __init__(self, input_shape, outputs):
        super().__init__()
        self.head = torch.nn.Linear(64, outputs)

    def forward(self, x):
        self.batches += self.training
        if os.environ["RANK"] == "1" and self.batches == 30:
            raise RuntimeError("out of luck in batch 30")
        return self.head(x.flatten(1))
"""


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_all_ranks_at_one_step_and_the_run_resumes_exactly(
    workspace, whole, sent, code
):
    name = f"asked-{code}"
    process = started(workspace, name)
    process.send_signal(sent)
    output = output_of(process)
    assert process.returncode == code, output
    assert workspace.result(f"outputs/{name}")["status"] == "interrupted"
    assert ranks(name) == {}
    workspace.run(f"resume=outputs/{name}", code=0)
    assert workspace.rows(f"outputs/{name}") == whole


def test_a_signal_to_one_rank_stops_all(workspace, whole):
    process = started(workspace, "told")
    os.kill(ranks("told")[1], signal.SIGTERM)
    output = output_of(process)
    assert process.returncode == 143, output
    workspace.run("resume=outputs/told", code=0)
    assert workspace.rows("outputs/told") == whole


def test_ranks_save_a_checkpoint_and_end_when_the_command_is_killed(workspace, whole):
    process = started(workspace, "orphaned")
    process.kill()
    process.wait()
    deadline = time.monotonic() + 300
    while ranks("orphaned"):
        assert time.monotonic() < deadline, "ranks are left"
        time.sleep(0.1)
    assert workspace.result("outputs/orphaned")["status"] == "interrupted"
    workspace.run("resume=outputs/orphaned", code=0)
    assert workspace.rows("outputs/orphaned") == whole


def test_bad_input_found_by_a_rank_is_reported_once(workspace):
    done = workspace.run(*TWO, "name=bad", "dataset=line", code=1)
    message = "error: train.batch_size=32: must be at most 5, the size of the training set."
    assert done.output.count("train.batch_size=32") == 1
    assert message in done.output
    assert "Traceback" not in done.output
