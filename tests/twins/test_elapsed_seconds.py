"""Metrics rows have the elapsed seconds of the run, without the time between stop and resume."""

import time
from itertools import pairwise

import pytest
from made_runs import OTHER
from short_runs import FP64, MLP

from pipeline.loggers.metrics_file import read_metrics
from pipeline.run.recording.stopwatch import Stopwatch
from pipeline.storage.run_folder import RunFolder

RUN = f"{FP64} {MLP}"
STOPPED = 2.0  # seconds that a run lies stopped


def seconds(run):
    """`perf/seconds` of all rows of a run, which must never decrease."""
    told = [row["perf/seconds"] for row in read_metrics(run / "metrics.jsonl")]
    assert all(before <= after for before, after in pairwise(told))
    return told


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_rows_have_the_seconds_since_the_start_including_setup(train, tmp_path, backend):
    assert train("run", backend, RUN) == 0
    rows, told = read_metrics(tmp_path / "run" / "metrics.jsonl"), seconds(tmp_path / "run")
    for key in ("train/loss", "val/loss", "test/loss"):
        assert any(key in row for row in rows), key
    spent = RunFolder(tmp_path / "run").result.seconds
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
def test_a_resumed_run_continues_from_the_seconds_of_its_first_part(
    train, tmp_path, backend, crossing
):
    first, second = tmp_path / "first", tmp_path / ("second" if crossing else "first")
    assert train("first", backend, f"{RUN} train.stop_after=13") == 130
    before, spent = seconds(first), RunFolder(first).result.seconds["total"]
    time.sleep(STOPPED)
    assert train(second.name, OTHER[backend] if crossing else backend, f"{RUN} resume={first}") == 0
    after, again = seconds(second), RunFolder(second).result.seconds["total"]
    assert after[: len(before)] == before
    assert len(after) > len(before)
    # All of the second part and what came before it; but not the time between them.
    assert again < after[-1] <= spent + again


def test_a_checkpoint_without_elapsed_seconds_counts_the_seconds_of_its_phases():
    stopwatch = Stopwatch()
    seconds = {"setup": 100.0, "compile": 20.0, "train": 3.0}
    stopwatch.restore(seconds, None)
    assert 123 <= stopwatch.elapsed < 130
    stopwatch.restore(seconds, 7.0)
    assert 7 <= stopwatch.elapsed < 14
    assert stopwatch.seconds == seconds | {"eval": 0.0}


def test_a_suspended_stopwatch_stands_still():
    watch = Stopwatch()
    watch.suspend()
    stood = watch.elapsed
    time.sleep(0.3)
    watch.suspend()
    assert watch.elapsed == stood
    watch.proceed()
    assert stood <= watch.elapsed < stood + 0.3
