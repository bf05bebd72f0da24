"""A sweep with `sweep.vectorize=true`: one process trains jobs of one shape, each with its own files."""

import os
import signal
import time

import pytest
from asserts import assert_rows_close
from offline_wandb import read_run

from pipeline.storage.checkpoints import checkpoints_of
from pipeline.storage.run_folder import RunFolder

QUICK = (
    "model=linear", "accelerator=cpu", "train.precision=fp64", "train.epochs=2",
    "train.log_every=15", "seed=0,1", "optimizer.weight_decay=0.01,0.1",
)  # fmt: skip
JOBS = [
    f"{number}_seed={number // 2}_optimizer.weight_decay={(0.01, 0.1)[number % 2]}"
    for number in range(4)
]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_a_sweep_in_one_process_stops_resumes_and_ends_as_its_jobs_alone(workspace, backend):
    quick = (f"backend={backend}", *QUICK)
    at_once, one_by_one = f"{backend}_at_once", f"{backend}_one_by_one"
    command = ("-m", *quick, f"name={at_once}", "logger=wandb", "sweep.vectorize=true")
    stopped = workspace.run(*command, "train.stop_after=25", code=130)
    assert "4 jobs train at once: 0-3" in stopped.output
    folders = [f"outputs/{at_once}/{job}" for job in JOBS]
    assert {workspace.result(folder)["status"] for folder in folders} == {"interrupted"}
    ids = [read_run(workspace.path / folder / "wandb").id for folder in folders]
    assert len({*ids}) == 4

    resumed = workspace.run(*command, code=0)
    assert resumed.output.count("resumes at step 25") == 4
    workspace.run("-m", *quick, f"name={one_by_one}", "logger=none", code=0)
    for job, folder, identity in zip(JOBS, folders, ids, strict=True):
        rows, alone = workspace.rows(folder), workspace.rows(f"outputs/{one_by_one}/{job}")
        assert_rows_close(rows, alone, atol=1e-13)
        result = workspace.result(folder)
        assert (result["status"], result["vectorized"]) == ("completed", 4)
        assert result["test"] == pytest.approx(
            workspace.result(f"outputs/{one_by_one}/{job}")["test"]
        )
        run = read_run(workspace.path / folder / "wandb")
        assert run.id == identity
        assert [row["step"] for row in run.metrics] == sorted({row["step"] for row in rows})
        assert "step 80/80" in (workspace.path / folder / "run.log").read_text()
        assert (workspace.path / folder / ".hydra/overrides.yaml").exists()

    again = workspace.run(*command, code=0)
    assert again.output.count("is finished") == 4
    assert "train at once" not in again.output


PAUSES = """import os, time

def after_evaluation(step, metrics, weights, tracker):
    time.sleep(float(os.environ.get("PAUSE", "0")))
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_jobs_of_a_killed_group_resume_at_once_from_their_checkpoints(workspace, backend):
    (workspace.path / "pausing_group.py").write_text(PAUSES)
    quick = (
        "-m", f"backend={backend}", "model=linear", "accelerator=cpu", "train.precision=fp64",
        "train.epochs=40", "seed=0,1", "logger=none", "sweep.vectorize=true",
        "callbacks=[pausing_group:after_evaluation]",
    )  # fmt: skip
    killed, whole = f"name={backend}_killed", f"name={backend}_whole"
    folders = [f"outputs/{backend}_killed/{number}_seed={number}" for number in range(2)]
    process = workspace.start(*quick, killed, PAUSE="0.05")
    while not all(checkpoints_of(workspace.path / folder) for folder in folders):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)
    os.kill(RunFolder(workspace.path / folders[0]).identity.process.process, signal.SIGKILL)
    output, _ = process.communicate(timeout=300)
    assert output.count("failed: killed by SIGKILL") == 2

    again = workspace.run(*quick, killed, "sweep.retry_failed=true", code=0)
    assert again.output.count("resumes at step") == 2
    assert "2 jobs train at once: 0, 1" in again.output
    workspace.run(*quick, whole, code=0)
    for folder in folders:
        result = workspace.result(folder)
        assert (result["status"], result["vectorized"]) == ("completed", 2)
        whole_rows = workspace.rows(folder.replace("killed", "whole"))
        assert_rows_close(workspace.rows(folder), whole_rows, rtol=1e-10)
