"""Transfer and conversion of runs as a user does it, with each framework in its own process."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import warm_start
from asserts import assert_rows_close
from made_runs import OTHER
from offline_wandb import read_run

ROOT = Path(__file__).parents[2]
SMALL = (
    "model=mlp", "model.hidden=[16]", "optimizer=adamw", "accelerator=cpu", "train.precision=fp64",
    "train.steps=200", "train.log_every=7", "train.eval_every=60steps", "train.ema=0.9",
)  # fmt: skip


# Ends with the frameworks that it has loaded.
TOLD = (
    "import atexit, runpy, sys\n"
    "atexit.register(lambda: print('loaded', {'torch', 'jax', 'flax'} & set(sys.modules)))\n"
    "runpy.run_module('pipeline.convert', run_name='__main__')"
)


def convert(workspace, *arguments, cold=False):
    """Run `python -m pipeline.convert …`; return its exit code and its output; see `TOLD` for `cold`."""
    done = warm_start.run(
        [sys.executable, *(("-c", TOLD) if cold else ("-m", "pipeline.convert")), *arguments],
        cwd=workspace.path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.STDOUT,
        cold=cold,
    )
    return done.returncode, done.stdout


@pytest.fixture(scope="module", params=["torch", "jax"])
def backend(request, workspace):
    """A backend with two runs in outputs/: an uninterrupted one, and one stopped within an epoch."""
    name, ours = request.param, f"backend={request.param}"
    workspace.run(ours, *SMALL, "logger=none", f"name={name}-whole", code=0)
    loggers = "logger=[wandb,csv,tensorboard]"
    workspace.run(ours, *SMALL, loggers, f"name={name}-half", "train.stop_after=73", code=130)
    return name


@pytest.mark.slow
def test_a_run_resumed_on_the_other_backend_keeps_all_its_logs(workspace, backend):
    name, half = f"{backend}-crossed", workspace.path / "outputs" / f"{backend}-half"
    before = sorted(path for path in half.rglob("*") if path.is_file())
    workspace.run(
        f"resume=outputs/{backend}-half", f"backend={OTHER[backend]}", f"name={name}", code=0
    )
    rows = workspace.rows(f"outputs/{name}")
    assert_rows_close(rows, workspace.rows(f"outputs/{backend}-whole"))
    assert sorted(path for path in half.rglob("*") if path.is_file()) == before
    folder = workspace.path / "outputs" / name
    with (folder / "metrics.csv").open() as table:
        assert sorted({row["step"] for row in rows}) == [
            int(row["step"]) for row in csv.DictReader(table)
        ]
    first, second = read_run(half / "wandb"), read_run(folder / "wandb")
    assert first.id != second.id
    assert [row["step"] for row in second.metrics] == sorted({row["step"] for row in rows})
    assert len(list((folder / "tensorboard").iterdir())) == 2
    # It is a run like any other, and goes on in its own folder.
    workspace.run(f"resume=outputs/{name}", code=0)
    assert workspace.rows(f"outputs/{name}")[: len(rows)] == rows


@pytest.mark.slow
def test_a_run_is_converted_without_loading_a_framework(workspace, backend):
    half, there = f"outputs/{backend}-half", f"outputs/{backend}-there"
    code, said = convert(workspace, half, there, cold=True)
    assert code == 0, said
    assert "loaded set()" in said
    assert f"a run of {OTHER[backend]} at step 73  →  {there}" in said
    resumed = workspace.run(f"resume={there}", code=0)
    assert_rows_close(workspace.rows(there), workspace.rows(f"outputs/{backend}-whole"))
    tested = workspace.run("mode=test", f"checkpoint={there}", f"backend={backend}", code=0)
    numbers = re.findall(r"test/loss (\S+)  test/accuracy (\S+)", tested.output + resumed.output)
    assert numbers[0] == numbers[1]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch"], indirect=True)
def test_bad_conversions_report_one_error(workspace, backend):
    for arguments, told in (
        ((f"outputs/{backend}-half", f"outputs/{backend}-whole"), "it already exists"),
        ((f"outputs/{backend}-half", "new", "model.hidden=[8]"), "where the model has [8, 64]"),
        ((f"outputs/{backend}-half", "new", "optimiser=sgd"), "optimiser"),
    ):
        code, said = convert(workspace, *arguments)
        assert code == 1
        assert told in said
        assert "Traceback" not in said
    assert not (workspace.path / "new").exists()
