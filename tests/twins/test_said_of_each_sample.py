"""After a test each sample of a classification has its line, in the order of the test set."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline import datasets
from pipeline.config import BackendConfig
from pipeline.experiment import Job
from pipeline.experiment import run as run_experiment
from pipeline.predictions import FILE, read_predictions
from pipeline.runs import RunFolder

SMALL = "dataset.limit=160 train.batch_size=16 train.eval_batch_size=77 train.steps=12"
FP64 = f"train.precision=fp64 logger=none accelerator=cpu {SMALL}"


@pytest.fixture
def finished(configure, tmp_path):
    """A function that runs an experiment, and gives what it said of each sample, and its result."""

    def ran(backend, overrides, name="run"):
        config = replace(configure(overrides), backend=BackendConfig(name=backend))
        assert run_experiment(config, Job(tmp_path / name, name)) == 0
        return read_predictions(tmp_path / name), RunFolder(tmp_path / name).result

    return ran


@pytest.mark.parametrize("model", [pytest.param("cnn", marks=pytest.mark.slow), "mlp"])
def test_both_backends_say_the_same_of_each_sample_and_what_their_metrics_say(
    run, configure, tmp_path, model
):
    overrides = f"{FP64} model={model} train.label_smoothing=0.1 train.ema=0.5"
    finished = dict(zip(("torch", "jax"), run(overrides), strict=True))
    test = datasets.load(configure(overrides).dataset).test
    found = {backend: read_predictions(tmp_path / backend) for backend in finished}
    for backend, said in found.items():
        metrics = finished[backend].result["test"]
        np.testing.assert_array_equal(said.target, test.targets)
        assert len(test) == 359  # which neither the batch nor half of it divides
        assert said.loss.mean() == pytest.approx(metrics["test/loss"], rel=1e-12)
        assert np.mean(said.predicted == said.target) == metrics["test/accuracy"]
        assert said.confusion(10).trace() / len(test) == metrics["test/accuracy"]
        assert said.confusion(10).sum(axis=1).tolist() == np.bincount(test.targets).tolist()
    by_torch, by_jax = found.values()
    np.testing.assert_array_equal(by_torch.predicted, by_jax.predicted)
    np.testing.assert_allclose(by_torch.loss, by_jax.loss, rtol=1e-10)
    np.testing.assert_allclose(by_torch.confidence, by_jax.confidence, rtol=1e-10)
    np.testing.assert_array_equal(by_torch.worst, by_jax.worst)
    np.testing.assert_array_equal(by_torch.worst_images, by_jax.worst_images)
    assert by_torch.worst_images.max() == 255
    assert by_torch.classes.tolist() == by_jax.classes.tolist() == list("0123456789")


def test_each_line_is_that_of_its_own_sample(finished, configure, tmp_path):
    said, result = finished("torch", f"{FP64} model=linear")
    state = torch.load(result["best"]["checkpoint"], weights_only=True)["state_dict"]
    weight, bias = (state[f"model.fc.{name}"].numpy() for name in ("weight", "bias"))
    data = datasets.load(configure(FP64).dataset)
    inputs = ((data.test.inputs - data.mean) / data.std).transpose(0, 3, 1, 2)
    logits = inputs.reshape(len(inputs), -1) @ weight.T + bias
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = np.arange(len(chances))
    np.testing.assert_array_equal(said.predicted, chances.argmax(axis=1))
    np.testing.assert_allclose(said.loss, -np.log(chances[rows, data.test.targets]), rtol=1e-10)
    np.testing.assert_allclose(said.confidence, chances.max(axis=1), rtol=1e-10)


@pytest.mark.parametrize(
    "size", [7, 1000, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 359))]
)
def test_two_devices_of_one_process_say_what_one_says_whatever_the_batch(finished, size):
    overrides = f"{FP64} model=linear train.eval_batch_size={size}"
    one, _ = finished("jax", overrides, "one")
    two, _ = finished("jax", f"{overrides} accelerator.devices=2", "two")
    np.testing.assert_array_equal(one.predicted, two.predicted)
    np.testing.assert_allclose(one.loss, two.loss, rtol=1e-12)
    np.testing.assert_array_equal(one.worst, two.worst)


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_checkpoint_that_is_tested_leaves_them_on_either_backend(train, tmp_path, backend):
    assert train("run", backend, f"{FP64} model=linear") == 0
    known = read_predictions(tmp_path / "run")
    for other in ("torch", "jax"):
        tested = f"{FP64} model=linear mode=test checkpoint={tmp_path / 'run'}"
        assert train(f"tested-{other}", other, tested) == 0
        found = read_predictions(tmp_path / f"tested-{other}")
        np.testing.assert_array_equal(found.predicted, known.predicted)
        np.testing.assert_allclose(found.loss, known.loss, rtol=1e-10)


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_run_that_goes_on_and_is_stopped_has_those_of_no_earlier_test(train, tmp_path, backend):
    assert train("run", backend, f"{FP64} model=linear train.steps=6") == 0
    assert (tmp_path / "run" / FILE).exists()
    longer = f"{FP64} model=linear resume={tmp_path / 'run'} train.stop_after=9"
    assert train("run", backend, longer) == 130
    assert not (tmp_path / "run" / FILE).exists()


REGRESSION = "model=linear dataset=line train.batch_size=5"
LANGUAGE = (
    "model=gpt model.depth=1 model.heads=2 model.width=8 dataset=text dataset.length=16 "
    "dataset.max_bytes=5_000 train.batch_size=16"
)


@pytest.mark.parametrize(
    ("task", "backend"),
    [
        (REGRESSION, "torch"),
        (REGRESSION, "jax"),
        (LANGUAGE, "torch"),
        pytest.param(LANGUAGE, "jax", marks=pytest.mark.slow),
    ],
    ids=["regression-torch", "regression-jax", "language-torch", "language-jax"],
)
def test_of_no_other_task_is_anything_left(finished, tmp_path, backend, task):
    said, result = finished(backend, f"logger=none accelerator=cpu train.steps=2 {task}")
    assert said is None
    assert not (tmp_path / "run" / FILE).exists()
    assert result["test"]["test/loss"] > 0
