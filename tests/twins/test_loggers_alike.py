"""All loggers of both backends have the same keys and values at the same steps."""

import csv

import pytest
from offline_wandb import read_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.loggers.metrics_file import read_metrics

SMALL = (
    "logger=[wandb,csv,tensorboard] logger.wandb.artifacts=[] logger.wandb.predictions=0 "
    "accelerator=cpu model=linear train.steps=8 train.log_every=2 train.eval_every=4steps"
)


def by_step(rows):
    """Values by step and key; a step may have several rows."""
    return {(row["step"], key): row[key] for row in rows for key in row if key != "step"}


def in_table(path):
    with path.open() as table:
        rows = [
            {key: value for key, value in row.items() if value} for row in csv.DictReader(table)
        ]
    return by_step({key: float(value) for key, value in row.items()} for row in rows)


def in_tensorboard(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        (scalar.step, key): scalar.value
        for key in events.Tags()["scalars"]
        for scalar in events.Scalars(key)
    }


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_every_logger_has_the_values_of_metrics_jsonl(train, tmp_path, monkeypatch, backend):
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert train("run", backend, SMALL) == 0
    folder = tmp_path / "run"
    expected = by_step(read_metrics(folder / "metrics.jsonl"))
    keys = {key for _, key in expected}
    assert {"train/loss", "val/accuracy", "test/loss", "optim/lr", "perf/seconds", "epoch"} <= keys
    assert in_table(folder / "metrics.csv") == expected
    assert by_step(read_run(folder / "wandb").metrics) == expected
    told = in_tensorboard(folder / "tensorboard")
    assert told.keys() == expected.keys()
    for place, value in told.items():  # TensorBoard keeps single precision
        assert value == pytest.approx(expected[place], rel=1e-6), place
