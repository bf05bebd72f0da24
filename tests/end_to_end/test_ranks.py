"""The processes of one run begin and end together: killed, failing or asked to stop."""

import os
import signal
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

# Two processes of torch, long enough to be met on their way.
TWO = (
    "backend=torch", "accelerator=cpu", "accelerator.devices=2", "model=mlp", "logger=none",
    "train.steps=600", "train.eval_every=50steps", "train.precision=fp64",
)  # fmt: skip


def ranks(name):
    """Process ids of the ranks of a run, by rank."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
            command = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except (OSError, ProcessLookupError):
            continue
        told = dict(entry.partition("=")[::2] for entry in environment if "=" in entry)
        if f"name={name}" in command and "TANDEM_SUPERVISED" in told:
            found[int(told["RANK"])] = int(folder.name)
    return found


def started(workspace, name, *arguments):
    """A run in two processes that has logged some steps."""
    process = workspace.start(*TWO, f"name={name}", *arguments)
    deadline = time.monotonic() + 120
    while workspace.step(f"outputs/{name}") < 60:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "it does not get going"
        time.sleep(0.05)
    return process


def ended(process, within):
    """What a command said; it has to end in so many seconds."""
    output, _ = process.communicate(timeout=within)
    return output


@pytest.fixture(scope="module")
def whole(workspace):
    """The same run, never stopped."""
    done = workspace.run(*TWO, "name=whole")
    assert done.code == 0, done.output
    return workspace.rows("outputs/whole")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_the_run_with_its_name_and_leaves_no_process(workspace, rank):
    name = f"killed-{rank}"
    process = started(workspace, name)
    os.kill(ranks(name)[rank], signal.SIGKILL)
    output = ended(process, within=30)
    assert process.returncode == 1
    assert f"error: rank {rank} of 2 was killed by SIGKILL" in output
    result = workspace.result(f"outputs/{name}")
    assert result["status"] == "failed"
    assert result["error"] == f"rank {rank} of 2 was killed by SIGKILL"
    assert ranks(name) == {}


def test_the_error_is_that_of_the_rank_that_failed_first(workspace):
    (workspace.path / "failing.py").write_text(FAILING)
    process = workspace.start(
        *TWO, "model=own", "model.torch=failing:Net", "model.jax=failing:Net", "name=failing",
        PYTHONPATH=str(workspace.path),
    )  # fmt: skip
    output = ended(process, within=90)
    assert process.returncode == 1
    assert "error: rank 1 of 2 failed: out of luck in batch 30" in output
    assert workspace.result("outputs/failing")["error"].endswith("out of luck in batch 30")
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
def test_asked_to_stop_all_ranks_end_at_one_step_and_the_run_can_go_on(
    workspace, whole, sent, code
):
    name = f"asked-{code}"
    process = started(workspace, name)
    process.send_signal(sent)
    output = ended(process, within=30)
    assert process.returncode == code, output
    assert workspace.result(f"outputs/{name}")["status"] == "interrupted"
    assert ranks(name) == {}
    done = workspace.run(f"resume=outputs/{name}")
    assert done.code == 0, done.output
    assert workspace.rows(f"outputs/{name}") == whole


def test_one_rank_alone_told_to_stop_stops_all(workspace, whole):
    process = started(workspace, "told")
    os.kill(ranks("told")[1], signal.SIGTERM)
    output = ended(process, within=30)
    assert process.returncode == 143, output
    done = workspace.run("resume=outputs/told")
    assert done.code == 0, done.output
    assert workspace.rows("outputs/told") == whole


def test_when_the_command_itself_is_killed_its_ranks_end_with_a_checkpoint(workspace, whole):
    process = started(workspace, "orphaned")
    process.kill()
    process.wait()
    deadline = time.monotonic() + 30
    while ranks("orphaned"):
        assert time.monotonic() < deadline, "ranks are left"
        time.sleep(0.1)
    assert workspace.result("outputs/orphaned")["status"] == "interrupted"
    done = workspace.run("resume=outputs/orphaned")
    assert done.code == 0, done.output
    assert workspace.rows("outputs/orphaned") == whole


def test_bad_input_that_only_a_rank_finds_is_told_once(workspace):
    done = workspace.run(*TWO, "name=bad", "dataset=line")
    assert done.code == 1
    message = "error: train.batch_size=32: must be at most 5, the size of the training set."
    assert done.output.count("train.batch_size=32") == 1
    assert message in done.output
    assert "Traceback" not in done.output
