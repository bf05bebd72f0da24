"""JAX processes started by hand or by torchrun, as on several machines: one run in one folder."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import TimeoutExpired

import pytest
from asserts import assert_predictions_close, assert_rows_close

from pipeline.devices.launch_ranks import free_port
from pipeline.storage.checkpoints import checkpoints_of

RUN_PY = Path(__file__).parents[2] / "run.py"
RUN = (
    "backend=jax", "accelerator=cpu", "logger=none", "model=mlp", "model.hidden=[64]",
    "optimizer=adamw", "train.ema=0.9", "dataset.augment=true", "dataset.crop_padding=1",
    "train.precision=fp64", "train.log_every=1", "train.steps=12", "train.eval_every=5steps",
)  # fmt: skip
FSDP = ("accelerator.devices=2", "accelerator.strategy=fsdp")
LONG = ("train.steps=100000", "train.eval_every=50steps", "train.log_every=10")


def start(workspace, *arguments, count=2, cold=False, **environment):
    """Start the processes of a run, by rank."""
    address = f"127.0.0.1:{free_port()}"
    return [
        workspace.start(
            *arguments,
            f"accelerator.nodes={count}",
            JAX_COORDINATOR_ADDRESS=address,
            JAX_NUM_PROCESSES=str(count),
            JAX_PROCESS_ID=str(rank),
            cold=cold,
            **environment,
        )
        for rank in range(count)
    ]


def end(processes, timeout=300):
    """Wait for all processes to end, and kill those that do not; return exit codes and outputs."""
    try:
        outputs = [process.communicate(timeout=timeout)[0] for process in processes]
    except TimeoutExpired:
        pytest.fail("a process did not end")
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [process.returncode for process in processes], outputs


def run(workspace, name, *arguments, code=0, cold=False):
    """Run two processes to their end; return the rows of metrics."""
    codes, outputs = end(start(workspace, *arguments, f"name={name}", cold=cold))
    assert codes == [code, code], "\n".join(outputs)
    return workspace.rows(f"outputs/{name}")


@pytest.fixture(scope="module")
def alone(workspace):
    """Rows of the run in one process on one device."""
    workspace.run(*RUN, "name=alone", code=0)
    return workspace.rows("outputs/alone")


@pytest.mark.slow
def test_two_processes_log_the_numbers_of_one(workspace, alone):
    assert_rows_close(run(workspace, "two", *RUN, cold=True), alone, atol=1e-12)
    assert_predictions_close(
        workspace.predictions("outputs/two"), workspace.predictions("outputs/alone")
    )
    result, one = (workspace.result(f"outputs/{name}") for name in ("two", "alone"))
    assert result["devices"].startswith("jax on 2 × cpu, ")
    for key in ("status", "init_digest", "data_digest", "parameters", "steps"):
        assert result[key] == one[key], key


@pytest.mark.slow
def test_two_processes_of_torchrun_log_the_numbers_of_one(workspace, alone):
    torchrun = Path(sys.executable).with_name("torchrun")
    command = [
        torchrun,
        "--nproc-per-node=2",
        RUN_PY,
        *RUN,
        "name=torchrun",
        "accelerator.devices=2",
    ]
    done = subprocess.run(command, cwd=workspace.path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert_rows_close(workspace.rows("outputs/torchrun"), alone, atol=1e-12)


@pytest.fixture(scope="module")
def shared(workspace, alone):
    """Rows of the run in two processes of two devices each, with FSDP."""
    rows = run(workspace, "shared", *RUN, *FSDP)
    assert_rows_close(rows, alone, atol=1e-12)
    assert_predictions_close(
        workspace.predictions("outputs/shared"), workspace.predictions("outputs/alone")
    )
    return rows


@pytest.fixture(scope="module")
def stopped(workspace):
    """Folder of that run, stopped after seven steps."""
    run(workspace, "stopped", *RUN, *FSDP, "train.stop_after=7", code=130)
    assert workspace.result("outputs/stopped")["status"] == "interrupted"
    return workspace.path / "outputs/stopped"


@pytest.mark.slow
def test_a_stopped_run_resumes_in_two_processes_bit_for_bit(workspace, shared, stopped):
    shutil.copytree(stopped, stopped.with_name("again"))
    assert run(workspace, "again", "resume=outputs/again") == shared


@pytest.mark.slow
def test_a_stopped_run_resumes_in_one_process_on_one_device(workspace, alone, stopped):
    shutil.copytree(stopped, stopped.with_name("fewer"))
    one = ("accelerator.nodes=1", "accelerator.devices=1", "accelerator.strategy=auto")
    workspace.run("resume=outputs/fewer", *one, code=0)
    assert_rows_close(workspace.rows("outputs/fewer"), alone, atol=1e-12)


@pytest.mark.slow
def test_a_run_stopped_in_one_process_resumes_in_two(workspace, alone):
    workspace.run(*RUN, "name=more", "train.stop_after=7", code=130)
    assert_rows_close(run(workspace, "more", "resume=outputs/more", *FSDP), alone, atol=1e-12)


@pytest.mark.slow
def test_a_stopped_run_resumes_in_torch(workspace, alone, stopped):
    one = ("accelerator.nodes=1", "accelerator.devices=1", "accelerator.strategy=auto")
    workspace.run(f"resume={stopped}", "backend=torch", "name=crossed", *one, code=0)
    assert_rows_close(workspace.rows("outputs/crossed"), alone, atol=1e-12)


def start_and_wait(workspace, name, *arguments):
    """Start two processes; return them once they have logged some steps."""
    processes = start(workspace, *RUN, *LONG, f"name={name}", *arguments)
    deadline = time.monotonic() + 300
    while workspace.step(f"outputs/{name}") < 60:
        if time.monotonic() > deadline or any(process.poll() for process in processes):
            codes, outputs = end(processes, timeout=1)
            pytest.fail(f"it does not get going: {codes} {outputs}")
        time.sleep(0.05)
    return processes


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_process_stops_all_after_the_same_step(workspace, rank):
    name = f"told-{rank}"
    processes = start_and_wait(workspace, name)
    processes[rank].send_signal(signal.SIGTERM)
    codes, outputs = end(processes, timeout=300)
    assert codes == [143, 143], outputs
    result = workspace.result(f"outputs/{name}")
    newest = checkpoints_of(workspace.path / "outputs" / name)[0]
    assert (result["status"], newest.step) == ("interrupted", result["steps"])


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_when_one_process_is_killed_the_other_ends_within_a_minute(workspace, rank):
    processes = start_and_wait(workspace, f"killed-{rank}")
    processes[rank].kill()
    codes, _ = end(processes, timeout=60)
    assert codes[rank] == -signal.SIGKILL
    assert codes[1 - rank] not in (0, None)


FAILING = """
import os

import flax.linen as nn


class Net(nn.Module):
    input_shape: tuple
    outputs: int

    @nn.compact
    def __call__(self, x):
        if os.environ["JAX_PROCESS_ID"] == "1":
            raise RuntimeError("no luck")
        return nn.Dense(self.outputs)(x.reshape(len(x), -1))
"""


@pytest.mark.slow
def test_when_one_process_fails_all_end_and_its_error_is_reported(workspace):
    (workspace.path / "failing.py").write_text(FAILING)
    own = ("model=own", "model.jax=failing:Net")
    plain = [argument for argument in RUN if not argument.startswith("model")]
    processes = start(workspace, *plain, *own, "name=failing", PYTHONPATH=str(workspace.path))
    codes, outputs = end(processes, timeout=300)
    assert 0 not in codes
    assert "RuntimeError: no luck" in outputs[1]
