"""Crossing and converting as a user does: each framework in a process of its own."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from offline_wandb import read_run

ROOT = Path(__file__).parents[2]
SMALL = (
    "model=mlp", "model.hidden=[16]", "optimizer=adamw", "accelerator=cpu", "train.precision=fp64",
    "train.steps=200", "train.log_every=7", "train.eval_every=60steps", "train.ema=0.9",
)  # fmt: skip
OTHER = {"torch": "jax", "jax": "torch"}


def convert(workspace, *arguments):
    """`python -m pipeline.convert …`: its exit code, and what it says and has loaded."""
    code = (
        "import atexit, runpy, sys\n"
        "atexit.register(lambda: print('loaded', {'torch', 'jax', 'flax'} & set(sys.modules)))\n"
        "runpy.run_module('pipeline.convert', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=workspace.path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


def assert_close(ours, theirs):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        for key in one:
            assert abs(one[key] - other[key]) <= 1e-10 * abs(one[key]), (key, one["step"])


@pytest.fixture(scope="module", params=["torch", "jax"])
def backend(request, workspace):
    """A backend whose runs, never stopped and stopped within an epoch, lie in outputs/."""
    name, ours = request.param, f"backend={request.param}"
    assert workspace.run(ours, *SMALL, "logger=none", f"name={name}-whole").code == 0
    loggers = "logger=[wandb,csv,tensorboard]"
    half = workspace.run(ours, *SMALL, loggers, f"name={name}-half", "train.stop_after=73")
    assert half.code == 130, half.output
    return name


@pytest.mark.slow
def test_a_run_crosses_with_all_that_it_has_logged(workspace, backend):
    name, half = f"{backend}-crossed", workspace.path / "outputs" / f"{backend}-half"
    before = sorted(path for path in half.rglob("*") if path.is_file())
    crossed = workspace.run(
        f"resume=outputs/{backend}-half", f"backend={OTHER[backend]}", f"name={name}"
    )
    assert crossed.code == 0, crossed.output
    rows = workspace.rows(f"outputs/{name}")
    assert_close(workspace.rows(f"outputs/{backend}-whole"), rows)
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
    again = workspace.run(f"resume=outputs/{name}")
    assert again.code == 0, again.output
    assert workspace.rows(f"outputs/{name}")[: len(rows)] == rows


@pytest.mark.slow
def test_a_run_is_converted_by_a_process_that_loads_no_framework(workspace, backend):
    half, there = f"outputs/{backend}-half", f"outputs/{backend}-there"
    code, said = convert(workspace, half, there)
    assert code == 0, said
    assert "loaded set()" in said
    assert f"a run of {OTHER[backend]} at step 73  →  {there}" in said
    resumed = workspace.run(f"resume={there}")
    assert resumed.code == 0, resumed.output
    assert_close(workspace.rows(f"outputs/{backend}-whole"), workspace.rows(there))
    tested = workspace.run("mode=test", f"checkpoint={there}", f"backend={backend}")
    assert tested.code == 0, tested.output
    numbers = re.findall(r"test/loss (\S+)  test/accuracy (\S+)", tested.output + resumed.output)
    assert numbers[0] == numbers[1]


@pytest.mark.slow
def test_bad_conversions_end_with_one_message(workspace, backend):
    for arguments, told in (
        ((f"outputs/{backend}-half", f"outputs/{backend}-whole"), "must be a new file or folder"),
        ((f"outputs/{backend}-half", "new", "model.hidden=[8]"), "where the model has [8, 64]"),
        ((f"outputs/{backend}-half", "new", "optimiser=sgd"), "optimiser"),
    ):
        code, said = convert(workspace, *arguments)
        assert code == 1
        assert told in said
        assert "Traceback" not in said
    assert not (workspace.path / "new").exists()
