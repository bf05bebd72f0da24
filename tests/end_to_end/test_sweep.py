"""A sweep: each job a process of its own, told apart by what differs, compared at the end."""

import signal
import time

import psutil
import pytest
from offline_wandb import read_run

QUICK = ("model=linear", "dataset=digits", "logger=none", "train.epochs=1", "accelerator=cpu")


def folders(workspace, name):
    """The job folders of a sweep."""
    paths = (workspace.path / "outputs" / name).iterdir()
    return sorted(path.name for path in paths if path.is_dir())


@pytest.fixture(scope="module")
def both(workspace):
    """The main job, small: one experiment on both backends, with W&B offline."""
    done = workspace.run(
        "-m", "backend=torch,jax", "model=cnn", "logger=wandb", "name=both", "train.epochs=2",
        "tags=[mine]", "accelerator=cpu",
    )  # fmt: skip
    assert done.code == 0, done.output
    return done


def test_both_backends_run_and_end_in_one_table(workspace, both):
    assert folders(workspace, "both") == ["0_backend=torch", "1_backend=jax"]
    assert "comparison" in both.output
    assert "the same weights at step 0 and the same batches: " in both.output
    for file in ("report.html", "comparison.md", "comparison.csv"):
        text = (workspace.path / "outputs/both" / file).read_text()
        assert "backend=torch" in text, file
        assert "backend=jax" in text, file
    assert both.output.count("completed") >= 4, "each job says so, and its row in the table"
    for job, backend in enumerate(("torch", "jax")):
        assert f"outputs/both/{job}_backend={backend}" in both.output
        assert workspace.result(f"outputs/both/{job}_backend={backend}")["status"] == "completed"


def test_both_log_the_same_keys_at_the_same_steps_and_all_but_the_same_numbers(workspace, both):
    torch, jax = (
        workspace.rows(f"outputs/both/{job}") for job in ("0_backend=torch", "1_backend=jax")
    )
    assert [list(row) for row in torch] == [list(row) for row in jax]
    for ours, theirs in zip(torch, jax, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-2, abs=1e-3), ours["step"]


def test_in_wandb_the_two_runs_are_told_apart_by_the_backend_alone(workspace, both):
    torch, jax = (
        read_run(workspace.path / "outputs/both" / job / "wandb")
        for job in ("0_backend=torch", "1_backend=jax")
    )
    assert torch.group == jax.group == "both"
    assert torch.id != jax.id
    assert set(torch.tags) == {"torch", "cnn", "digits", "mine"}
    assert set(jax.tags) == {"jax", "cnn", "digits", "mine"}
    different = {key for key in torch.config if torch.config[key] != jax.config.get(key)}
    assert torch.config.keys() == jax.config.keys()
    assert different == {"backend"}
    assert [set(row) for row in torch.metrics] == [set(row) for row in jax.metrics]
    assert [row["step"] for row in torch.metrics] == [row["step"] for row in jax.metrics]
    assert torch.summary.keys() == jax.summary.keys()
    assert {"train/loss", "val/accuracy", "test/accuracy", "optim/lr"} <= torch.summary.keys()
    assert "wandb sync" in both.output


def test_a_resumed_run_goes_on_in_the_same_wandb_run(workspace):
    arguments = ("backend=jax", "model=linear", "logger=wandb", "train.epochs=3", "name=again")
    stopped = workspace.run(*arguments, "train.stop_after=50")
    assert stopped.code == 130, stopped.output
    first = read_run(workspace.path / "outputs/again/wandb").id
    resumed = workspace.run("resume=outputs/again")
    assert resumed.code == 0, resumed.output
    run = read_run(workspace.path / "outputs/again/wandb")
    assert run.id == first
    logged = {row["step"] for row in workspace.rows("outputs/again")}
    assert {row["step"] for row in run.metrics} == logged
    assert (
        run.metrics[-1]["test/accuracy"]
        == workspace.result("outputs/again")["test"]["test/accuracy"]
    )


def test_a_failing_job_is_told_at_once_and_in_the_table_and_the_others_go_on(workspace):
    done = workspace.run(
        "-m", "backend=jax", "dataset=line", "model=linear", "optimizer=sgd", "train.batch_size=5",
        "optimizer.lr=100,0.01", "schedule=constant", "train.steps=60", "logger=none", "name=failing",
    )  # fmt: skip
    assert done.code == 1, done.output
    told = done.output.index("job 0 (optimizer.lr=100) failed: train/loss is inf at step 7")
    assert told < done.output.index("optimizer.lr=0.01"), "before the next job begins"
    table = done.output[done.output.index("comparison") :]
    assert "failed" in table
    assert "completed" in table
    assert workspace.result("outputs/failing/1_optimizer.lr=0.01")["status"] == "completed"


def children(process, deadline=60.0):
    """The jobs that a sweep is running, once there is one."""
    until = time.monotonic() + deadline
    while time.monotonic() < until:
        jobs = [
            child
            for child in psutil.Process(process.pid).children(recursive=True)
            if "hydra.mode=RUN" in child.cmdline()
        ]
        if jobs:
            return jobs
        time.sleep(0.05)
    raise AssertionError("no job was started")


def test_a_killed_job_is_told_by_name_and_the_others_go_on(workspace):
    sweep = workspace.start("-m", "backend=jax", *QUICK, "seed=0,1", "name=killed")
    children(sweep)[0].send_signal(signal.SIGKILL)
    output, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 1, output
    assert "job 0 (seed=0) failed: killed by SIGKILL" in output
    assert workspace.result("outputs/killed/1_seed=1")["status"] == "completed"
    assert workspace.result("outputs/killed/0_seed=0")["status"] == "failed"


def test_ctrl_c_ends_the_job_with_a_checkpoint_and_starts_no_other(workspace):
    def training():
        return workspace.step("outputs/ctrlc/0_seed=0") >= 20

    done = workspace.run_until(
        training, signal.SIGINT, "-m", "backend=jax", "seed=0,1", "name=ctrlc", "logger=none",
        "train.epochs=2000", "accelerator=cpu", "model=mlp",
    )  # fmt: skip
    assert done.code == 130, done.output
    assert workspace.result("outputs/ctrlc/0_seed=0")["status"] == "interrupted"
    assert "interrupted at step" in done.output
    assert not (workspace.path / "outputs/ctrlc/1_seed=1/result.json").exists()


def test_the_joblib_launcher_runs_jobs_side_by_side_each_in_its_folder(workspace):
    done = workspace.run(
        "-m", "backend=jax", *QUICK, "optimizer=sgd,adamw", "seed=0,1", "name=joblib",
        "hydra/launcher=joblib", "hydra.launcher.n_jobs=2",
    )  # fmt: skip
    assert done.code == 0, done.output
    expected = [
        f"{number}_optimizer={optimizer}_seed={seed}"
        for number, (optimizer, seed) in enumerate(
            (optimizer, seed) for optimizer in ("sgd", "adamw") for seed in (0, 1)
        )
    ]
    assert folders(workspace, "joblib") == expected
    for name in expected:
        result = workspace.result(f"outputs/joblib/{name}")
        assert result["status"] == "completed"
        assert f"seed={result['config']['seed']}" in name
        assert f"optimizer={result['config']['optimizer']['name']}" in name
