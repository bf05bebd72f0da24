"""Processes of JAX that a person starts, as on several machines: one run, in one folder."""

import shutil
import signal
import time
from subprocess import TimeoutExpired

import pytest

from pipeline.checkpoints import checkpoints_of
from pipeline.ranks import free_port

RUN = (
    "backend=jax", "accelerator=cpu", "logger=none", "model=mlp", "model.hidden=[64]",
    "optimizer=adamw", "train.ema=0.9", "dataset.augment=true", "dataset.crop_padding=1",
    "train.precision=fp64", "train.log_every=1", "train.steps=12", "train.eval_every=5steps",
)  # fmt: skip
FSDP = ("accelerator.devices=2", "accelerator.strategy=fsdp")
LONG = ("train.steps=100000", "train.eval_every=50steps", "train.log_every=10")


def start(workspace, *arguments, count=2, **environment):
    """Start the processes of a run; the first is the one that speaks."""
    address = f"127.0.0.1:{free_port()}"
    return [
        workspace.start(
            *arguments,
            f"accelerator.nodes={count}",
            JAX_COORDINATOR_ADDRESS=address,
            JAX_NUM_PROCESSES=str(count),
            JAX_PROCESS_ID=str(rank),
            **environment,
        )
        for rank in range(count)
    ]


def end(processes, timeout=300):
    """Exit codes and outputs, once all have ended; none is left behind."""
    try:
        outputs = [process.communicate(timeout=timeout)[0] for process in processes]
    except TimeoutExpired:
        pytest.fail("a process did not end")
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [process.returncode for process in processes], outputs


def run(workspace, name, *arguments, code=0):
    """A run in two processes, to its end; gives its lines of metrics."""
    codes, outputs = end(start(workspace, *arguments, f"name={name}"))
    assert codes == [code, code], "\n".join(outputs)
    return workspace.rows(f"outputs/{name}")


def assert_same(rows, expected):
    """The same lines, with numbers within 1e-10."""
    assert [list(row) for row in rows] == [list(row) for row in expected]
    for row, wanted in zip(rows, expected, strict=True):
        assert row == pytest.approx(wanted, rel=1e-10)


@pytest.fixture(scope="module")
def alone(workspace):
    """What a run in one process, on one device, logs."""
    done = workspace.run(*RUN, "name=alone")
    assert done.code == 0, done.output
    return workspace.rows("outputs/alone")


@pytest.mark.slow
def test_two_processes_log_the_numbers_of_one(workspace, alone):
    assert_same(run(workspace, "two", *RUN), alone)
    workspace.assert_predictions_alike("outputs/two", "outputs/alone")
    result, one = (workspace.result(f"outputs/{name}") for name in ("two", "alone"))
    assert result["devices"].startswith("jax on 2 × cpu, ")
    for key in ("status", "init_digest", "data_digest", "parameters", "steps"):
        assert result[key] == one[key], key


@pytest.fixture(scope="module")
def shared(workspace, alone):
    """What a run logs in two processes of two devices, each with a share of the model."""
    rows = run(workspace, "shared", *RUN, *FSDP)
    assert_same(rows, alone)
    workspace.assert_predictions_alike("outputs/shared", "outputs/alone")
    return rows


@pytest.fixture(scope="module")
def stopped(workspace):
    """The same, stopped after seven steps."""
    run(workspace, "stopped", *RUN, *FSDP, "train.stop_after=7", code=130)
    assert workspace.result("outputs/stopped")["status"] == "interrupted"
    return workspace.path / "outputs/stopped"


@pytest.mark.slow
def test_stopped_it_goes_on_in_as_many_processes_bit_for_bit(workspace, shared, stopped):
    shutil.copytree(stopped, stopped.with_name("again"))
    assert run(workspace, "again", "resume=outputs/again") == shared


@pytest.mark.slow
def test_stopped_it_goes_on_in_one_process_on_one_device(workspace, alone, stopped):
    shutil.copytree(stopped, stopped.with_name("fewer"))
    one = ("accelerator.nodes=1", "accelerator.devices=1", "accelerator.strategy=auto")
    done = workspace.run("resume=outputs/fewer", *one)
    assert done.code == 0, done.output
    assert_same(workspace.rows("outputs/fewer"), alone)


@pytest.mark.slow
def test_stopped_in_one_process_it_goes_on_in_two(workspace, alone):
    stopped = workspace.run(*RUN, "name=more", "train.stop_after=7")
    assert stopped.code == 130, stopped.output
    assert_same(run(workspace, "more", "resume=outputs/more", *FSDP), alone)


@pytest.mark.slow
def test_stopped_it_goes_on_in_torch(workspace, alone, stopped):
    one = ("accelerator.nodes=1", "accelerator.devices=1", "accelerator.strategy=auto")
    done = workspace.run(f"resume={stopped}", "backend=torch", "name=crossed", *one)
    assert done.code == 0, done.output
    assert_same(workspace.rows("outputs/crossed"), alone)


def going(workspace, name, *arguments):
    """Two processes that have logged some steps."""
    processes = start(workspace, *RUN, *LONG, f"name={name}", *arguments)
    deadline = time.monotonic() + 120
    while workspace.step(f"outputs/{name}") < 60:
        if time.monotonic() > deadline or any(process.poll() for process in processes):
            codes, outputs = end(processes, timeout=1)
            pytest.fail(f"it does not get going: {codes} {outputs}")
        time.sleep(0.05)
    return processes


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_when_one_is_told_to_stop_all_stop_after_the_same_step(workspace, rank):
    name = f"told-{rank}"
    processes = going(workspace, name)
    processes[rank].send_signal(signal.SIGTERM)
    codes, outputs = end(processes, timeout=60)
    assert codes == [143, 143], outputs
    result = workspace.result(f"outputs/{name}")
    newest = checkpoints_of(workspace.path / "outputs" / name)[0]
    assert (result["status"], newest.step) == ("interrupted", result["steps"])


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_when_one_is_killed_the_other_ends_within_thirty_seconds(workspace, rank):
    processes = going(workspace, f"killed-{rank}")
    processes[rank].kill()
    codes, _ = end(processes, timeout=30)
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
def test_when_one_fails_all_end_and_its_error_is_told(workspace):
    (workspace.path / "failing.py").write_text(FAILING)
    own = ("model=own", "model.torch=failing:Net", "model.jax=failing:Net")
    plain = [argument for argument in RUN if not argument.startswith("model")]
    processes = start(workspace, *plain, *own, "name=failing", PYTHONPATH=str(workspace.path))
    codes, outputs = end(processes, timeout=90)
    assert 0 not in codes
    assert "RuntimeError: no luck" in outputs[1]
