"""Hyper-parameters changed on resuming take effect, and equally on both backends."""

import numpy as np
import pytest

from pipeline.loggers.metrics_file import read_metrics
from pipeline.storage.run_folder import RunFolder

RUN = (
    "model=mlp dataset.limit=96 train.batch_size=16 train.steps=40 train.precision=fp64 "
    "train.log_every=1 logger=none accelerator=cpu"
)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("optimizer=adamw", "optimizer=adamw optimizer.lr=0.05 optimizer.weight_decay=0.3"),
        pytest.param(
            "optimizer=adam",
            "optimizer=adam optimizer.betas=[0.5,0.9] optimizer.eps=1e-3",
            marks=pytest.mark.slow,
        ),
        ("optimizer=sgd", "optimizer=sgd optimizer.momentum=0.5 schedule=constant"),
    ],
)
def test_changed_hyper_parameters_take_effect_equally_on_both_backends(
    train, tmp_path, before, after
):
    losses, rates, seldom = [], [], f"{RUN} train.eval_every=20steps"
    for backend in ("torch", "jax"):
        folder = tmp_path / backend
        assert train(backend, backend, f"{seldom} {before} train.stop_after=17") == 130
        assert train(backend, backend, f"{seldom} {after} resume={folder}") == 0
        rows = [row for row in read_metrics(folder / "metrics.jsonl") if "train/loss" in row]
        losses.append(np.array([row["train/loss"] for row in rows]))
        rates.append([row["optim/lr"] for row in rows])
    assert rates[0] == rates[1]
    assert len(losses[0]) == 40
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-10)


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_run_ended_by_early_stopping_is_not_trained_further(train, tmp_path, backend):
    early = f"{RUN} optimizer=sgd optimizer.lr=1e-9 train.steps=60 train.early_stopping=2"
    assert train("run", backend, early) == 0
    first = RunFolder(tmp_path / "run").result
    assert first.steps == 18, "the first evaluation, at step 6, was the best"
    assert train("run", backend, f"{early} resume={tmp_path / 'run'}") == 0
    result = RunFolder(tmp_path / "run").result
    assert (result.steps, result.best) == (18, first.best)
    assert result.test == first.test
