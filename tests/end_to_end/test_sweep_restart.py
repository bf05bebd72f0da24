"""An interrupted sweep is finished by the same command."""

import re
import signal
import time

import psutil
import pytest
from end_to_end.conftest import jobs
from offline_wandb import read_run

from pipeline.storage.checkpoints import checkpoints_of

LONG = (
    "model=mlp", "model.hidden=[32]", "logger=none", "accelerator=cpu", "dataset.augment=true",
    "dataset.crop_padding=1", "train.steps=900", "train.log_every=7", "train.eval_every=60steps",
)  # fmt: skip
BRIEF = ("backend=jax", "model=linear", "logger=none", "accelerator=cpu", "train.steps=40")


def plan(output):
    """Announcements of a sweep at its start, by job name."""
    told = output[output.index("sweep of ") :].splitlines()[1:]
    lines = (re.fullmatch(r"\d+  (\S+(?: \S+=\S+)*)  +(.*?) *", line) for line in told)
    return {line[1]: line[2] for line in lines if line}


def run_until(workspace, run, *arguments):
    """Start a sweep; return it once one of its jobs has a checkpoint."""
    sweep = workspace.start("-m", *arguments)
    while not checkpoints_of(workspace.path / run) and sweep.poll() is None:
        time.sleep(0.01)
    assert sweep.poll() is None, sweep.communicate()[0]
    return sweep


@pytest.fixture(scope="module")
def whole(request, workspace):
    """A backend, and the rows of its second job without interruption."""
    backend, name = request.param, f"{request.param}-whole"
    if not (workspace.path / "outputs" / name).exists():  # pytest sets a parameter up once per test
        workspace.run(f"backend={backend}", *LONG, "seed=1", f"name={name}", code=0)
    return backend, workspace.rows(f"outputs/{name}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("whole", "sent"), [("jax", signal.SIGKILL), ("torch", signal.SIGINT)], indirect=["whole"]
)
def test_the_same_command_finishes_an_interrupted_sweep(workspace, whole, sent):
    backend, rows = whole
    name = f"{backend}-{sent.name}"
    command = (f"backend={backend}", *LONG, "seed=0,1,2", f"name={name}")
    half = f"outputs/{name}/1_seed=1"
    sweep = run_until(workspace, half, *command)
    running = psutil.Process(sweep.pid).children(recursive=True)
    sweep.send_signal(sent)
    sweep.communicate(timeout=300)
    assert sweep.returncode == (130 if sent == signal.SIGINT else -signal.SIGKILL)
    _, left = psutil.wait_procs(running, timeout=300)
    assert left == [], "the job saves and ends when its sweep does"
    assert 60 <= workspace.step(half) < 900

    again = workspace.run("-m", *command, code=0)
    told = plan(again.output)
    step = int(told.pop("seed=1").removeprefix("resumes at step "))
    assert 60 <= step < 900
    assert told == {"seed=0": "is finished", "seed=2": "starts"}
    assert again.output.count("device  ") == 2, "two jobs have run"
    assert workspace.rows(half) == rows
    table = again.output[again.output.index("comparison") :]
    assert table.count("completed") == 3
    assert "resume" not in table

    done = workspace.run("-m", *command)
    assert (done.code, set(plan(done.output).values())) == (0, {"is finished"})
    assert "device  " not in done.output


@pytest.mark.slow
def test_reordered_and_added_values_run_no_job_twice_or_in_another_jobs_folder(
    workspace,
):
    workspace.run("-m", *BRIEF, "seed=0,1", "name=order", "train.stop_after=20", code=130)
    command = ("-m", *BRIEF, "seed=1,2,0,1", "name=order")
    dry = workspace.run(*command, "sweep.dry_run=true")
    expected = ["resumes at step 20", "starts", "resumes at step 20", "is the same as job 0"]
    assert dry.code == 0, dry.output
    assert [line.split("  ")[2] for line in dry.output.splitlines()[1:5]] == expected
    there = (workspace.path / "outputs/order").iterdir()
    assert {path.name for path in there if path.is_dir()} == {"0_seed=0", "1_seed=1"}

    workspace.run(*command, code=0)
    for folder, seed in (("0_seed=0", 0), ("1_seed=1", 1), ("1_seed=2", 2)):
        result = workspace.result(f"outputs/order/{folder}")
        assert (result["status"], result["config"]["seed"]) == ("completed", seed)
    other = workspace.run("-m", *BRIEF, "seed=0,1", "name=order", "optimizer.lr=0.1", code=0)
    folders = {
        path.name.rpartition("_")[0] for path in (workspace.path / "outputs/order").iterdir()
    }
    assert {"0_seed=0", "1_seed=1"} < folders, "beside those of the same number and name"
    assert other.output.count("completed in") == 2
    assert workspace.result("outputs/order/0_seed=0")["config"]["optimizer"]["lr"] == 0.003


@pytest.mark.slow
def test_a_resumed_job_continues_its_wandb_run(workspace):
    command = ("-m", *BRIEF, "logger=wandb", "seed=0,1", "name=logged")
    workspace.run(*command, "train.stop_after=20", code=130)
    folder = workspace.path / "outputs/logged/0_seed=0"
    first = read_run(folder / "wandb").id
    workspace.run(*command, code=0)
    run = read_run(folder / "wandb")
    assert run.id == first
    assert [row["step"] for row in run.metrics] == sorted(
        {row["step"] for row in workspace.rows("outputs/logged/0_seed=0")}
    )


@pytest.mark.slow
@pytest.mark.parametrize("whole", ["torch"], indirect=True)
def test_a_failed_job_runs_again_only_with_retry_failed(workspace, whole):
    backend, rows = whole
    name = f"{backend}-failed"
    command = ("-m", f"backend={backend}", *LONG, "seed=1,3", f"name={name}")
    sweep = run_until(workspace, f"outputs/{name}/0_seed=1", *command[1:])
    for job in jobs(sweep):
        job.kill()
    output, _ = sweep.communicate(timeout=300)
    assert sweep.returncode == 1, output
    assert "job 0 (seed=1) failed: killed by SIGKILL" in output

    left = workspace.run(*command, code=1)
    told = {"seed=1": "has failed; sweep.retry_failed=true tries it again", "seed=3": "is finished"}
    assert plan(left.output) == told
    assert "device  " not in left.output

    retried = workspace.run(*command, "sweep.retry_failed=true", code=0)
    assert plan(retried.output)["seed=1"].startswith("resumes at step ")
    assert workspace.rows(f"outputs/{name}/0_seed=1") == rows


@pytest.mark.slow
def test_a_job_killed_before_its_first_checkpoint_restarts_on_retry(workspace):
    command = ("-m", *BRIEF, "seed=0,1", "name=early")
    sweep = workspace.start(*command)
    while not (started := jobs(sweep)) and sweep.poll() is None:
        time.sleep(0.01)
    started[0].kill()
    output, _ = sweep.communicate(timeout=300)
    assert sweep.returncode == 1, output
    left = workspace.run(*command, code=1)
    assert plan(left.output)["seed=0"].startswith("has failed")
    again = workspace.run(*command, "sweep.retry_failed=true", code=0)
    assert plan(again.output) == {"seed=0": "starts again", "seed=1": "is finished"}
    assert workspace.result("outputs/early/0_seed=0")["steps"] == 40


@pytest.mark.slow
def test_every_job_is_checked_before_the_first_starts(workspace):
    bad = ("-m", *BRIEF, "model=linear,nosuch", "train.batch_size=32,-1", "name=checked")
    dry = workspace.run(*bad, "sweep.dry_run=true", code=1)
    assert (
        "job 1 (model=linear train.batch_size=-1) failed: train.batch_size=-1: must" in dry.output
    )
    assert "job 2 (model=nosuch train.batch_size=32) failed: model=nosuch: must be" in dry.output
    assert not (workspace.path / "outputs/checked").exists()

    done = workspace.run(*bad, code=1)
    assert done.output.index("job 3 (") < done.output.index("device  ")
    table = done.output[done.output.index("comparison") :]
    assert (table.count("completed"), table.count("failed")) == (1, 3)
    # What is mended is refused no longer, and the rest is not run again.
    mended = workspace.run(
        "-m", *BRIEF, "model=linear", "train.batch_size=32,16", "name=checked", code=0
    )
    assert mended.output.count("device  ") == 1


@pytest.mark.slow
def test_a_running_job_is_skipped(workspace):
    command = ("backend=jax", *LONG, "train.steps=900000", "name=twice")
    sweep = run_until(workspace, "outputs/twice/0_seed=0", *command, "seed=0,1")
    try:
        other = workspace.run("-m", *command, "seed=0")
        assert "seed=0) is already running, skipped" in other.output
        assert other.code == 130
        assert "device  " not in other.output
    finally:
        sweep.send_signal(signal.SIGINT)
        sweep.communicate(timeout=300)
    assert workspace.result("outputs/twice/0_seed=0")["status"] == "interrupted"


@pytest.mark.slow
def test_setting_the_folder_of_a_job_is_refused(workspace):
    done = workspace.run("-m", *BRIEF, "seed=0,1", "hydra.sweep.subdir=mine", code=1)
    assert "error: hydra.sweep.subdir=mine: must be left out" in done.output
    assert "Traceback" not in done.output
