"""Sweeps and runs on a real two-node Slurm: resources, failures, requeueing and resuming."""

import json
import re
import signal
import sys

import pytest
from asserts import assert_rows_close
from cluster.conftest import running_tasks, wait_until
from end_to_end.conftest import RUN
from end_to_end.test_optuna_search import trials_of
from offline_wandb import read_run

from pipeline.formatting import format_number

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]

SLURM = ("hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1")
SMALL = ("model=mlp", "accelerator=cpu", "train.precision=fp64", "train.log_every=1")
QUICK = (*SMALL, "logger=none", "train.steps=6")

# Long enough to be stopped on the way; evaluated, and so saved, every 40 steps.
LONG = (*SMALL, "backend=jax", "train.steps=1200", "logger=wandb")
LONGER = 4000  # steps: still going on when the second command looks

SEARCH = (
    "-m", "hydra/sweeper=optuna", "optimizer.lr=tag(log,interval(1e-3,1e-1))", *LONG, *SLURM,
    "hydra.sweeper.n_jobs=2", "logger=none",
)  # fmt: skip


def only_job(workspace, sweep, name):
    """Folder of the only job of a sweep, once it has logged step 60."""
    below = workspace.path / "outputs" / name
    found = wait_until(lambda: [str(path) for path in below.glob("0_*")], sweep)
    wait_until(lambda: workspace.step(found[0]) >= 60, sweep)
    return found[0]


def scripts(workspace, name):
    """Batch scripts of a sweep, links excluded."""
    files = (workspace.path / "outputs" / name / ".slurm").glob("*/*_submission.sh")
    return [file.read_text() for file in sorted(files)]


@pytest.fixture(scope="module")
def uninterrupted(workspace, cluster):
    """Rows of the long run without interruption."""
    workspace.run(*LONG, "name=uninterrupted", code=0)
    return workspace.rows("outputs/uninterrupted")


def test_two_nodes_log_the_losses_of_one_process(workspace):
    cases = ("backend=torch,jax", *QUICK)
    there = workspace.start("-m", *cases, *SLURM, "name=there", "accelerator.nodes=2")
    here = workspace.run("-m", *cases, "name=here")
    output, _ = there.communicate(timeout=300)
    assert (there.returncode, here.code) == (0, 0), output
    for job in ("0_backend=torch", "1_backend=jax"):
        assert "2 machines" in workspace.result(f"outputs/there/{job}")["devices"]
        ours, theirs = (workspace.rows(f"outputs/{name}/{job}") for name in ("there", "here"))
        assert_rows_close(ours, theirs, rtol=0, atol=1e-10)


def test_each_job_requests_the_nodes_and_tasks_of_its_accelerator(workspace, cluster):
    workspace.run(
        "-m",
        "backend=jax",
        "accelerator.devices=1,2",
        "seed=0,1",
        *QUICK,
        *SLURM,
        "name=shapes",
        code=0,
    )
    one, two = scripts(workspace, "shapes")
    assert "--array=0-1%2\n" in one
    assert "--ntasks-per-node=1\n" in one
    assert "--ntasks-per-node=2\n" in two
    assert "gpus" not in one + two
    for job in workspace.jobs("shapes"):
        devices = workspace.result(f"outputs/shapes/{job}")["devices"]
        assert ("2 × cpu" in devices) == ("devices=2" in job), (job, devices)


def test_a_failing_job_is_reported_and_does_not_hold_up_the_other(workspace):
    done = workspace.run(
        "-m", "backend=jax", "dataset=line", "model=linear", "optimizer=sgd", "train.batch_size=5",
        "optimizer.lr=100,0.01", "schedule=constant", "train.steps=60", "logger=none",
        "accelerator=cpu", *SLURM, "name=failing", code=1,
    )  # fmt: skip
    assert "job 0 (optimizer.lr=100) failed: train/loss is inf at step 7" in done.output
    assert "job 1 (optimizer.lr=0.01) completed" in done.output
    table = done.output[done.output.index("comparison") :]
    assert table.index("failed") < table.index("completed")


def test_an_unknown_partition_is_reported_in_slurms_words(workspace):
    done = workspace.run(
        "-m", *QUICK, *SLURM, "hydra.launcher.partition=none", "name=nowhere", code=1
    )
    assert "hydra/launcher=slurm" in done.output
    assert "invalid partition specified: none" in done.output
    assert "Traceback" not in done.output


def test_a_preempted_job_is_requeued_and_resumes_exactly(workspace, cluster, uninterrupted):
    sweep = workspace.start("-m", *LONG, *SLURM, "name=displaced")
    folder = only_job(workspace, sweep, "displaced")
    job = cluster.job("displaced")
    cluster("sbatch", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null",
            "--wrap=true")  # fmt: skip
    output, _ = sweep.communicate(timeout=300)
    assert sweep.returncode == 0, output
    assert "is queued again" in output
    assert cluster.job_field(job, "Restarts") == "1"
    assert rows_of_resumed_run(workspace, folder) == uninterrupted


def test_a_signalled_run_of_a_batch_script_is_requeued_and_resumes_exactly(
    workspace, cluster, uninterrupted
):
    script = f"srun --kill-on-bad-exit=1 {sys.executable} {RUN} {' '.join(LONG)} name=warned"
    job = cluster(
        "sbatch", "--parsable", "--requeue", "--ntasks=1", f"--chdir={workspace.path}",
        "--open-mode=append", "--output=warned.log", f"--wrap={script}",
    )  # fmt: skip
    wait_until(lambda: workspace.step("outputs/warned") >= 60)
    cluster("scancel", "--signal=USR1", job)
    wait_until(lambda: cluster.state(job) == "COMPLETED")
    assert cluster.job_field(job, "Restarts") == "1"
    log = (workspace.path / "warned.log").read_text()
    assert f"job {job} is requeued" in log
    assert rows_of_resumed_run(workspace, "outputs/warned") == uninterrupted


def rows_of_resumed_run(workspace, folder):
    """Rows of a completed run that was stopped once; W&B must have them as one run."""
    result = workspace.result(folder)
    assert result["status"] == "completed"
    run = read_run(workspace.path / folder / "wandb")
    assert len(run.files) == 2, "a part before and a part after"
    rows = workspace.rows(folder)
    assert {row["step"] for row in run.metrics} == {row["step"] for row in rows}
    return rows


def test_rerunning_a_sweep_after_ctrl_c_waits_for_its_running_and_queued_jobs(workspace, cluster):
    one_at_a_time = "hydra.launcher.array_parallelism=1"
    steps = (LONGER, 6)
    command = (
        "-m", *LONG, f"train.steps={LONGER},6", *SLURM, one_at_a_time, "logger=none", "name=left",
    )  # fmt: skip
    sweep = workspace.start(*command, cold=True)
    folder = only_job(workspace, sweep, "left")
    sweep.send_signal(signal.SIGINT)
    output, _ = sweep.communicate(timeout=300)
    assert sweep.returncode == 130, output
    assert "the jobs continue; to end them: scancel" in output

    numbers = submitted_ids(output)
    assert len(numbers) == 2
    again = workspace.run(*command, code=0)
    for job, known in enumerate(numbers):
        assert (
            f"job {job} (train.steps={steps[job]}) is job {known} of Slurm already" in again.output
        )
        assert f"job {job} (train.steps={steps[job]}) completed" in again.output
    assert f"job 0 (train.steps={LONGER}) runs on n" in again.output
    assert len(scripts(workspace, "left")) == 1, "nothing was submitted again"
    assert "skipped" not in again.output
    for job, last in zip((folder, "outputs/left/1_train.steps=6"), steps, strict=True):
        trained = [row["step"] for row in workspace.rows(job) if "train/loss" in row]
        assert trained == list(range(1, last + 1))
        assert workspace.result(job)["status"] == "completed"


def test_trials_of_a_search_are_slurm_jobs_and_the_best_is_reported(workspace, cluster):
    done = workspace.run(
        *SEARCH, "train.steps=6", "hydra.sweeper.n_trials=3", "name=search", code=0
    )
    assert len(submitted_ids(done.output)) == 3
    [pair] = [script for script in scripts(workspace, "search") if "--array" in script]
    assert "--array=0-1%" in pair, "two at a time"
    trials = trials_of(workspace, "search")
    assert [state for state, *_ in trials] == ["COMPLETE"] * 3
    for job, (_, params, value) in zip(workspace.jobs("search"), trials, strict=True):
        folder = f"outputs/search/{job}"
        result = workspace.result(folder)
        assert result["config"]["optimizer"]["lr"] == params["optimizer.lr"]
        assert result["best"]["value"] == value
        identity = workspace.path / folder / "run.json"
        assert json.loads(identity.read_text())["slurm_job"], "it ran in a job of Slurm's"
    values = [value for _, _, value in trials]
    best = values.index(max(values))
    told = f"best: val/accuracy {format_number(values[best])} of trial {best}: optimizer.lr="
    assert done.output.splitlines()[-1] == told + str(trials[best][1]["optimizer.lr"])


def test_rerunning_a_search_after_ctrl_c_uses_the_result_of_its_running_trial(workspace, cluster):
    command = (*SEARCH, f"train.steps={LONGER}", "hydra.sweeper.n_trials=1", "name=search-left")
    search = workspace.start(*command, cold=True)
    folder = only_job(workspace, search, "search-left")
    search.send_signal(signal.SIGINT)
    output, _ = search.communicate(timeout=300)
    assert search.returncode == 130, output

    again = workspace.run(*command, code=0)
    [job] = submitted_ids(output)
    assert f"is job {job} of Slurm already" in again.output
    assert "runs on n" in again.output
    assert "waits for the end" not in again.output, "that is the launcher's part"
    assert submitted_ids(again.output) == [], "nothing was submitted again"
    [(state, _, value)] = trials_of(workspace, "search-left")
    assert (state, value) == ("COMPLETE", workspace.result(folder)["best"]["value"])


def submitted_ids(output):
    """Slurm ids of the jobs that a sweep has submitted."""
    return re.findall(r"is job (\S+) of Slurm \(", output)


def test_a_cancelled_job_stays_cancelled(workspace, cluster):
    sweep = workspace.start("-m", *LONG, *SLURM, "name=cancelled", "logger=none")
    folder = only_job(workspace, sweep, "cancelled")
    job = cluster.job("cancelled")
    cluster("scancel", job)
    output, _ = sweep.communicate(timeout=300)
    assert sweep.returncode == 130, output
    assert cluster.state(job) == "CANCELLED"
    assert workspace.result(folder)["status"] == "interrupted"


# Steps enough for the node to die in their midst.
@pytest.mark.parametrize(("backend", "steps"), [("torch", 200), ("jax", 300)])
def test_a_job_on_a_dead_node_is_reported_as_failed_and_resumes_on_retry(
    backend, steps, workspace, cluster
):
    name = f"dies-{backend}"
    command = (
        "-m", *LONG, *SLURM, f"backend={backend}", f"train.steps={steps}", "logger=none",
        "accelerator.nodes=2", f"name={name}", "sweep.retry_failed=true",
    )  # fmt: skip
    sweep = workspace.start(*command)
    folder = only_job(workspace, sweep, name)
    cluster.node("kill", "n2")
    cluster.node("revive", "n2")
    output, _ = sweep.communicate(timeout=300)
    result = workspace.result(folder)
    assert result["status"] in output
    wait_until(lambda: not running_tasks(), deadline=30.0)
    if result["status"] == "failed":  # Slurm may have been faster to run it again
        assert sweep.returncode == 1
        assert f"failed: {result['error'].splitlines()[0]}" in output
        again = workspace.run(*command, code=0)
        assert "resumes at step" in again.output
    steps_logged = [row["step"] for row in workspace.rows(folder)]
    assert sorted(set(steps_logged)) == list(range(1, steps + 1))
