"""Sweeps: one process per job, jobs named by what differs, and a comparison at the end."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from end_to_end.conftest import jobs
from offline_wandb import read_run, read_runs

RUN = Path(__file__).parents[2] / "run.py"

QUICK = ("model=linear", "dataset=digits", "logger=none", "train.epochs=1", "accelerator=cpu")


def folders(workspace, name):
    """Names of the job folders of a sweep."""
    paths = (workspace.path / "outputs" / name).iterdir()
    return sorted(path.name for path in paths if path.is_dir() and path.name != "wandb")


@pytest.fixture(scope="module")
def both(workspace):
    """Finished sweep of one small experiment over both backends, with W&B offline."""
    done = workspace.run(
        "-m", "backend=torch,jax", "model=linear", "logger=wandb", "name=both", "train.epochs=2",
        "tags=[mine]", "accelerator=cpu", cold=True, code=0,
    )  # fmt: skip
    return done


def test_both_backends_run_and_are_compared_in_one_table(workspace, both):
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


def test_both_backends_log_the_same_keys_at_the_same_steps_with_close_values(workspace, both):
    torch, jax = (
        workspace.rows(f"outputs/both/{job}") for job in ("0_backend=torch", "1_backend=jax")
    )
    assert [list(row) for row in torch] == [list(row) for row in jax]
    for ours, theirs in zip(torch, jax, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-2, abs=1e-3), ours["step"]


def test_wandb_runs_of_a_pair_differ_only_in_the_backend(workspace, both):
    torch, jax = (
        read_run(workspace.path / "outputs/both" / job / "wandb")
        for job in ("0_backend=torch", "1_backend=jax")
    )
    assert (torch.group, jax.group) == ("both backend=torch", "both backend=jax")
    assert (torch.job_type, jax.job_type) == ("torch", "jax")
    assert torch.id != jax.id
    assert set(torch.tags) == {"torch", "linear", "digits", "both", "mine"}
    assert set(jax.tags) == {"jax", "linear", "digits", "both", "mine"}
    different = {key for key in torch.config if torch.config[key] != jax.config.get(key)}
    assert torch.config.keys() == jax.config.keys()
    assert different == {"backend"}
    assert [set(row) for row in torch.metrics] == [set(row) for row in jax.metrics]
    assert [row["step"] for row in torch.metrics] == [row["step"] for row in jax.metrics]
    assert torch.summary.keys() == jax.summary.keys()
    assert {"train/loss", "val/accuracy", "test/accuracy", "optim/lr"} <= torch.summary.keys()
    assert "wandb sync" in both.output


def test_the_wandb_summary_equals_the_result_file(workspace, both):
    for job in ("0_backend=torch", "1_backend=jax"):
        told = read_run(workspace.path / "outputs/both" / job / "wandb").summary
        result = workspace.result(f"outputs/both/{job}")
        assert told["status"] == "completed"
        for key in (
            "throughput",
            "peak_memory_mb",
            "parameters",
            "signature",
            "init_digest",
            "data_digest",
        ):
            assert told[key] == result[key] is not None, key
        for part in ("best", "seconds"):
            flat = {f"{part}.{key}": value for key, value in result[part].items()}
            assert {key: told[key] for key in flat} == flat
        assert set(result["seconds"]) == {"setup", "compile", "train", "eval", "total"}
        assert told["test/accuracy"] == result["test"]["test/accuracy"]


@pytest.mark.slow
@pytest.mark.parametrize(("job", "backend"), [("0_backend=torch", "jax"), ("1_backend=jax", "jax")])
def test_a_checkpoint_downloaded_from_wandb_can_be_tested(workspace, both, job, backend):
    run = read_run(workspace.path / "outputs/both" / job / "wandb")
    (model,) = [artifact for artifact in run.artifacts if artifact.type == "model"]
    fetched = workspace.path / f"fetched-{job[0]}"
    for name, path in model.contents.items():  # as `wandb artifact get` does
        (fetched / name).parent.mkdir(parents=True, exist_ok=True)
        (fetched / name).write_bytes(path.read_bytes())
    name = f"name=tested-{job[0]}"
    workspace.run(
        "mode=test", f"checkpoint={fetched}", f"backend={backend}", "logger=none", name, code=0
    )
    tested = workspace.result(f"outputs/tested-{job[0]}")["test"]
    assert tested == pytest.approx(workspace.result(f"outputs/both/{job}")["test"], rel=1e-4)


def test_the_comparison_of_a_sweep_is_logged_as_a_wandb_run(workspace, both):
    (run,) = [
        run for run in read_runs(workspace.path / "outputs/both") if run.job_type == "comparison"
    ]
    assert run.config == {"sweep_name": "both"}
    assert run.summary["jobs.completed"] == 2
    path = run.files[0].parent / "files" / run.rows[-1]["runs.path"]
    assert [row[0] for row in json.loads(path.read_text())["data"]] == [
        "backend=torch",
        "backend=jax",
    ]
    assert run.files[0].is_relative_to(workspace.path / "outputs" / "both" / "wandb")


@pytest.mark.parametrize(
    ("backend", "heavy"),
    [
        ("torch", "jax flax orbax torchvision torchmetrics.functional scipy"),
        ("jax", "torch lightning matplotlib scipy.stats flax.nnx jax.experimental.pallas"),
    ],
)
def test_a_command_does_not_import_what_it_does_not_use(workspace, backend, heavy):
    heavy += (
        " wandb pandas plotly sklearn tensorboard tensorflow tensorflow_datasets requests optuna"
    )
    code = (
        "import atexit, runpy, sys\n"
        f"heavy = {heavy.split()}\n"
        "atexit.register(lambda: print('loaded:', [name for name in heavy if name in sys.modules]))\n"
        f"sys.path.insert(0, {str(RUN.parent)!r})\n"
        f"sys.argv = ['run.py', 'backend={backend}', 'name=quiet-{backend}', *{QUICK}]\n"
        f"runpy.run_path({str(RUN)!r}, run_name='__main__')\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=workspace.path, capture_output=True, text=True, timeout=300)
    assert "loaded: []" in done.stdout, done.stdout + done.stderr
    assert workspace.result(f"outputs/quiet-{backend}")["status"] == "completed"


@pytest.mark.slow
def test_a_resumed_run_continues_its_wandb_run(workspace):
    arguments = ("backend=jax", "model=linear", "logger=wandb", "train.epochs=3", "name=again")
    workspace.run(*arguments, "train.stop_after=50", code=130)
    first = read_run(workspace.path / "outputs/again/wandb").id
    workspace.run("resume=outputs/again", code=0)
    run = read_run(workspace.path / "outputs/again/wandb")
    assert run.id == first
    logged = {row["step"] for row in workspace.rows("outputs/again")}
    assert {row["step"] for row in run.metrics} == logged
    assert (
        run.metrics[-1]["test/accuracy"]
        == workspace.result("outputs/again")["test"]["test/accuracy"]
    )


@pytest.mark.slow
def test_a_failing_job_is_reported_at_once_and_in_the_table_and_the_others_run(workspace):
    done = workspace.run(
        "-m", "backend=jax", "dataset=line", "model=linear", "optimizer=sgd", "train.batch_size=5",
        "optimizer.lr=100,0.01", "schedule=constant", "train.steps=60", "logger=none", "name=failing", code=1,
    )  # fmt: skip
    told = done.output.index("job 0 (optimizer.lr=100) failed: train/loss is inf at step 7")
    assert told < done.output.index("optimizer.lr=0.01"), "before the next job begins"
    table = done.output[done.output.index("comparison") :]
    assert "failed" in table
    assert "completed" in table
    assert workspace.result("outputs/failing/1_optimizer.lr=0.01")["status"] == "completed"


@pytest.mark.slow
def test_a_killed_job_is_reported_by_name_and_the_others_run(workspace):
    sweep = workspace.start("-m", "backend=jax", *QUICK, "seed=0,1", "name=killed")
    while not (running := jobs(sweep)) and sweep.poll() is None:
        time.sleep(0.01)
    running[0].kill()
    output, _ = sweep.communicate(timeout=300)
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


@pytest.mark.slow
def test_the_joblib_launcher_runs_each_job_in_its_own_folder(workspace):
    workspace.run(
        "-m", "backend=jax", *QUICK, "optimizer=sgd,adamw", "seed=0,1", "name=joblib",
        "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", code=0,
    )  # fmt: skip
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
