"""Sweeps and runs on a real Slurm of two nodes: their shapes, their ends, and how they go on."""

import json
import re
import signal
import sys

import pytest
from cluster.conftest import processes, until
from end_to_end.conftest import RUN
from end_to_end.test_optuna_search import trials_of
from offline_wandb import read_run

from pipeline.announce import number

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cluster")]

SLURM = ("hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1")
SMALL = ("model=mlp", "accelerator=cpu", "train.precision=fp64", "train.log_every=1")
QUICK = (*SMALL, "logger=none", "train.steps=6")

# Long enough to be stopped on the way; evaluated, and so saved, every 40 steps.
LONG = (*SMALL, "backend=jax", "train.steps=1200", "logger=wandb")
LONGER = 4000  # enough for another command to start meanwhile

SEARCH = (
    "-m", "hydra/sweeper=optuna", "optimizer.lr=tag(log,interval(1e-3,1e-1))", *LONG, *SLURM,
    "hydra.sweeper.n_jobs=2", "logger=none",
)  # fmt: skip


def folders(workspace, name):
    """The job folders of a sweep."""
    return sorted(path.name for path in (workspace.path / "outputs" / name).iterdir())


def only_job(workspace, sweep, name):
    """The folder of the one job of a sweep, once it has taken some steps."""
    below = workspace.path / "outputs" / name
    found = until(lambda: [str(path) for path in below.glob("0_*")], sweep)
    until(lambda: workspace.step(found[0]) >= 60, sweep)
    return found[0]


def scripts(workspace, name):
    """The batch scripts of a sweep, without those that are links."""
    files = (workspace.path / "outputs" / name / ".slurm").glob("*/*_submission.sh")
    return [file.read_text() for file in sorted(files)]


@pytest.fixture(scope="module")
def uninterrupted(workspace, cluster):
    """What the long run logs when nobody stops it."""
    done = workspace.run(*LONG, "name=uninterrupted")
    assert done.code == 0, done.output
    return workspace.rows("outputs/uninterrupted")


def test_both_backends_on_two_nodes_give_the_losses_of_one_process(workspace):
    cases = ("backend=torch,jax", *QUICK)
    there = workspace.start("-m", *cases, *SLURM, "name=there", "accelerator.nodes=2")
    here = workspace.run("-m", *cases, "name=here")
    output, _ = there.communicate(timeout=120)
    assert (there.returncode, here.code) == (0, 0), output
    for job in ("0_backend=torch", "1_backend=jax"):
        assert "2 machines" in workspace.result(f"outputs/there/{job}")["devices"]
        ours, theirs = (workspace.rows(f"outputs/{name}/{job}") for name in ("there", "here"))
        assert [list(row) for row in ours] == [list(row) for row in theirs]
        for two, one in zip(ours, theirs, strict=True):
            assert two == pytest.approx(one, rel=0, abs=1e-10), (job, one["step"])


def test_each_job_asks_for_the_nodes_and_tasks_of_its_own_accelerator(workspace, cluster):
    done = workspace.run(
        "-m", "backend=jax", "accelerator.devices=1,2", "seed=0,1", *QUICK, *SLURM, "name=shapes"
    )
    assert done.code == 0, done.output
    one, two = scripts(workspace, "shapes")
    assert "--array=0-1%2\n" in one
    assert "--ntasks-per-node=1\n" in one
    assert "--ntasks-per-node=2\n" in two
    assert "gpus" not in one + two
    for job in folders(workspace, "shapes"):
        if "_" in job:
            devices = workspace.result(f"outputs/shapes/{job}")["devices"]
            assert ("2 × cpu" in devices) == ("devices=2" in job), (job, devices)


def test_a_failing_job_is_told_and_the_other_is_not_held_up(workspace):
    done = workspace.run(
        "-m", "backend=jax", "dataset=line", "model=linear", "optimizer=sgd", "train.batch_size=5",
        "optimizer.lr=100,0.01", "schedule=constant", "train.steps=60", "logger=none",
        "accelerator=cpu", *SLURM, "name=failing",
    )  # fmt: skip
    assert done.code == 1, done.output
    assert "job 0 (optimizer.lr=100) failed: train/loss is inf at step 7" in done.output
    assert "job 1 (optimizer.lr=0.01) completed" in done.output
    table = done.output[done.output.index("comparison") :]
    assert table.index("failed") < table.index("completed")


def test_a_partition_that_is_none_is_told_with_the_word_of_slurm(workspace):
    done = workspace.run("-m", *QUICK, *SLURM, "hydra.launcher.partition=none", "name=nowhere")
    assert done.code == 1, done.output
    assert "hydra/launcher=slurm" in done.output
    assert "invalid partition specified: none" in done.output
    assert "Traceback" not in done.output


def test_a_job_that_a_more_urgent_one_displaces_goes_on_as_if_nothing_had_been(
    workspace, cluster, uninterrupted
):
    sweep = workspace.start("-m", *LONG, *SLURM, "name=displaced")
    folder = only_job(workspace, sweep, "displaced")
    job = cluster.job("displaced")
    cluster("sbatch", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null",
            "--wrap=true")  # fmt: skip
    output, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 0, output
    assert "is queued again" in output
    assert cluster.fact(job, "Restarts") == "1"
    assert goes_on_where_it_stopped(workspace, folder) == uninterrupted


def test_a_run_of_a_batch_script_that_is_warned_goes_on_too(workspace, cluster, uninterrupted):
    script = f"srun --kill-on-bad-exit=1 {sys.executable} {RUN} {' '.join(LONG)} name=warned"
    job = cluster(
        "sbatch", "--parsable", "--requeue", "--ntasks=1", f"--chdir={workspace.path}",
        "--open-mode=append", "--output=warned.log", f"--wrap={script}",
    )  # fmt: skip
    until(lambda: workspace.step("outputs/warned") >= 60)
    cluster("scancel", "--signal=USR1", job)
    until(lambda: cluster.state(job) == "COMPLETED")
    assert cluster.fact(job, "Restarts") == "1"
    log = (workspace.path / "warned.log").read_text()
    assert f"job {job} goes back into the queue" in log
    assert goes_on_where_it_stopped(workspace, "outputs/warned") == uninterrupted


def goes_on_where_it_stopped(workspace, folder):
    """The rows of a run that was stopped once, when W&B has them too, as one run."""
    result = workspace.result(folder)
    assert result["status"] == "completed"
    run = read_run(workspace.path / folder / "wandb")
    assert len(run.files) == 2, "a part before and a part after"
    rows = workspace.rows(folder)
    assert {row["step"] for row in run.metrics} == {row["step"] for row in rows}
    return rows


def test_after_ctrl_c_the_same_command_waits_for_the_job_that_runs_and_for_the_one_in_the_queue(
    workspace, cluster
):
    one_at_a_time = "hydra.launcher.array_parallelism=1"
    steps = (LONGER, 6)
    command = (
        "-m", *LONG, f"train.steps={LONGER},6", *SLURM, one_at_a_time, "logger=none", "name=left",
    )  # fmt: skip
    sweep = workspace.start(*command)
    folder = only_job(workspace, sweep, "left")
    sweep.send_signal(signal.SIGINT)
    output, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 130, output
    assert "the jobs go on; to end them: scancel" in output

    numbers = numbers_of(output)
    assert len(numbers) == 2
    again = workspace.run(*command)
    assert again.code == 0, again.output
    for job, known in enumerate(numbers):
        assert (
            f"job {job} (train.steps={steps[job]}) is job {known} of Slurm already" in again.output
        )
        assert f"job {job} (train.steps={steps[job]}) completed" in again.output
    assert f"job 0 (train.steps={LONGER}) runs on n" in again.output
    assert len(scripts(workspace, "left")) == 1, "nothing was submitted again"
    assert "left alone" not in again.output
    for job, last in zip((folder, "outputs/left/1_train.steps=6"), steps, strict=True):
        trained = [row["step"] for row in workspace.rows(job) if "train/loss" in row]
        assert trained == list(range(1, last + 1))
        assert workspace.result(job)["status"] == "completed"


def test_the_trials_of_a_search_are_jobs_and_its_best_is_told(workspace, cluster):
    done = workspace.run(*SEARCH, "train.steps=6", "hydra.sweeper.n_trials=3", "name=search")
    assert done.code == 0, done.output
    assert len(numbers_of(done.output)) == 3
    [pair] = [script for script in scripts(workspace, "search") if "--array" in script]
    assert "--array=0-1%" in pair, "two at a time"
    trials = trials_of(workspace, "search")
    assert [state for state, *_ in trials] == ["COMPLETE"] * 3
    for folder, (_, params, value) in zip(trial_folders(workspace, "search"), trials, strict=True):
        result = workspace.result(folder)
        assert result["config"]["optimizer"]["lr"] == params["optimizer.lr"]
        assert result["best"]["value"] == value
        identity = workspace.path / folder / "run.json"
        assert json.loads(identity.read_text())["slurm_job"], "it ran in a job of Slurm's"
    values = [value for _, _, value in trials]
    best = values.index(max(values))
    told = f"best: val/accuracy {number(values[best])} of trial {best}: optimizer.lr="
    assert done.output.splitlines()[-1] == told + str(trials[best][1]["optimizer.lr"])


def test_after_ctrl_c_the_same_search_takes_the_end_of_the_trial_that_runs(workspace, cluster):
    command = (*SEARCH, f"train.steps={LONGER}", "hydra.sweeper.n_trials=1", "name=search-left")
    search = workspace.start(*command)
    folder = only_job(workspace, search, "search-left")
    search.send_signal(signal.SIGINT)
    output, _ = search.communicate(timeout=60)
    assert search.returncode == 130, output

    again = workspace.run(*command)
    assert again.code == 0, again.output
    [job] = numbers_of(output)
    assert f"is job {job} of Slurm already" in again.output
    assert "runs on n" in again.output
    assert "waits for the end" not in again.output, "that is the launcher's part"
    assert numbers_of(again.output) == [], "nothing was submitted again"
    [(state, _, value)] = trials_of(workspace, "search-left")
    assert (state, value) == ("COMPLETE", workspace.result(folder)["best"]["value"])


def trial_folders(workspace, name):
    """The job folders of a search, in the order of their trials."""
    return [f"outputs/{name}/{job}" for job in folders(workspace, name) if job[0].isdigit()]


def numbers_of(output):
    """Slurm's numbers of the jobs that a sweep has submitted."""
    return re.findall(r"is job (\S+) of Slurm \(", output)


def test_a_cancelled_job_stays_cancelled(workspace, cluster):
    sweep = workspace.start("-m", *LONG, *SLURM, "name=cancelled", "logger=none")
    folder = only_job(workspace, sweep, "cancelled")
    job = cluster.job("cancelled")
    cluster("scancel", job)
    output, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 130, output
    assert cluster.state(job) == "CANCELLED"
    assert workspace.result(folder)["status"] == "interrupted"


# Steps enough for the node to die in their midst.
@pytest.mark.parametrize(("backend", "steps"), [("torch", 200), ("jax", 300)])
def test_when_a_node_dies_the_job_is_told_as_failed_and_goes_on_when_it_is_retried(
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
    output, _ = sweep.communicate(timeout=120)
    result = workspace.result(folder)
    assert result["status"] in output
    until(lambda: not processes(), deadline=30.0)
    if result["status"] == "failed":  # Slurm may have been faster to run it again
        assert sweep.returncode == 1
        assert f"failed: {result['error'].splitlines()[0]}" in output
        again = workspace.run(*command)
        assert again.code == 0, again.output
        assert "goes on from step" in again.output
    steps_logged = [row["step"] for row in workspace.rows(folder)]
    assert sorted(set(steps_logged)) == list(range(1, steps + 1))
