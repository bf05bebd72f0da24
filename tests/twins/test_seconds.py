"""Every line tells the seconds of the run so far; while a run lies stopped, none pass."""

import time
from dataclasses import replace
from itertools import pairwise

import pytest
from crossings import FP64, MLP, OTHER

from pipeline import datasets
from pipeline.experiment import assemble
from pipeline.loggers.metrics_file import read_metrics
from pipeline.plan import data_plan
from pipeline.progress import Silence
from pipeline.runs import RunFolder
from pipeline.tracker import Tracker

RUN = f"{FP64} {MLP}"
STOPPED = 2.0  # seconds that a run lies stopped


def seconds(run):
    """What the lines of a run say, all of them, which never falls."""
    told = [row["perf/seconds"] for row in read_metrics(run / "metrics.jsonl")]
    assert all(before <= after for before, after in pairwise(told))
    return told


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_every_line_tells_the_seconds_since_the_start_set_up_included(train, tmp_path, backend):
    assert train("run", backend, RUN) == 0
    rows, told = read_metrics(tmp_path / "run" / "metrics.jsonl"), seconds(tmp_path / "run")
    for key in ("train/loss", "val/loss", "test/loss"):
        assert any(key in row for row in rows), key
    spent = RunFolder(tmp_path / "run").result["seconds"]
    assert spent["setup"] < told[0]
    assert spent["setup"] + spent["compile"] + spent["train"] <= told[-1] <= spent["total"]


@pytest.mark.parametrize(
    ("backend", "crossing"),
    [
        ("torch", False),
        ("jax", True),
        pytest.param("jax", False, marks=pytest.mark.slow),
        pytest.param("torch", True, marks=pytest.mark.slow),
    ],
    ids=["torch-the same backend", "jax-the other", "jax-the same backend", "torch-the other"],
)
def test_a_resumed_run_goes_on_from_the_seconds_of_its_first_part(
    train, tmp_path, backend, crossing
):
    first, second = tmp_path / "first", tmp_path / ("second" if crossing else "first")
    assert train("first", backend, f"{RUN} train.stop_after=13") == 130
    before, spent = seconds(first), RunFolder(first).result["seconds"]["total"]
    time.sleep(STOPPED)
    assert train(second.name, OTHER[backend] if crossing else backend, f"{RUN} resume={first}") == 0
    after, again = seconds(second), RunFolder(second).result["seconds"]["total"]
    assert after[: len(before)] == before
    assert len(after) > len(before)
    # All of the second part and what came before it; but not the time between them.
    assert again < after[-1] <= spent + again


def test_a_checkpoint_that_does_not_tell_its_seconds_counts_what_it_knows_of(configure, tmp_path):
    config = configure(RUN)
    plan = data_plan(config, datasets.load(config.dataset))
    around = {"tracker": Tracker(), "progress": Silence(), "interruption": None}
    recorder = assemble(config, plan, tmp_path, **around).recorder
    recorder.begin(0, None)
    recorder.seconds |= {"setup": 100.0, "compile": 20.0, "train": 3.0}
    state = recorder.state(0)
    assert state.pop("elapsed") < 100
    later = replace(recorder, started=time.perf_counter(), spent=0.0)
    later.restore(0, state)
    assert 123 <= later.elapsed < 130
    later.restore(0, state | {"elapsed": 7.0})
    assert 7 <= later.elapsed < 14
