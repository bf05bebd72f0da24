"""Both backends against NumPy, so that they are not only equal but right."""

import numpy as np
import pytest

from pipeline.config.models import Initializer
from pipeline.data.batch_plan import make_batch_plan
from pipeline.data.sources import load
from pipeline.training.initializers import initial_parameters

LR = 0.1
ONE_STEP = (
    f"model=linear optimizer=sgd optimizer.lr={LR} optimizer.momentum=0 schedule=constant "
    "train.steps=1 train.precision=fp64"
)
IMAGES = (
    "dataset=synthetic dataset.samples=40 dataset.shape=[6,5,3] dataset.classes=4 "
    "train.batch_size=8"
)
LINE = "dataset=line train.batch_size=5"


def features(split, data):
    """Normalised samples, flattened channels first: float64 `[samples, features]`."""
    inputs = split.fields[data.inputs[0]]
    if data.moments:
        mean, std = data.moments["image"]
        inputs = (inputs - mean) / std
    return (inputs.transpose(0, 3, 1, 2) if inputs.ndim == 4 else inputs).reshape(len(split), -1)


def metrics_and_gradient(task, outputs, targets):
    """Metrics, and the gradient of the mean loss with respect to the outputs."""
    rows = np.arange(len(targets))
    if task.name == "classification":
        shifted = outputs - outputs.max(axis=1, keepdims=True)
        logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        gradient = np.exp(logs)
        gradient[rows, targets] -= 1
        accuracy = (outputs.argmax(axis=1) == targets).mean()
        metrics = {"loss": -logs[rows, targets].mean(), "accuracy": accuracy}
        return metrics, gradient / len(targets)
    error = outputs - targets
    mse = np.square(error).mean()
    metrics = {"loss": mse, "mse": mse, "mae": np.abs(error).mean(), "r2": 1 - mse / targets.var()}
    return metrics, 2 * error / error.size


def by_hand(config):
    """Every number that one step of gradient descent on a linear model logs."""
    data = load(config.dataset)
    batch = make_batch_plan(config, data).indices(0)
    (target,) = data.task.targets
    inputs, targets = features(data.train, data)[batch], data.train.fields[target][batch]
    shapes = {"fc.weight": (data.outputs, inputs.shape[1]), "fc.bias": (data.outputs,)}
    weight, bias = initial_parameters(
        shapes, {"fc": "linear"}, config.seed, Initializer.torch
    ).values()

    metrics, gradient = metrics_and_gradient(data.task, inputs @ weight.T + bias, targets)
    expected = {f"train/{key}": value for key, value in metrics.items()}
    by_weight, by_bias = gradient.T @ inputs, gradient.sum(axis=0)
    expected["optim/grad_norm"] = np.sqrt((by_weight**2).sum() + (by_bias**2).sum())
    weight, bias = weight - LR * by_weight, bias - LR * by_bias

    for name, split in (("val", data.val), ("test", data.test)):
        metrics, _ = metrics_and_gradient(
            data.task, features(split, data) @ weight.T + bias, split.fields[target]
        )
        expected |= {f"{name}/{key}": value for key, value in metrics.items()}
    return expected


@pytest.mark.parametrize("size", [1, 7, 10_000])
@pytest.mark.parametrize("data", [IMAGES, LINE], ids=["images", "line"])
def test_one_step_matches_numpy_for_any_evaluation_batch_size(run, configure, data, size):
    overrides = f"{ONE_STEP} {data} train.eval_batch_size={size}"
    expected = by_hand(configure(overrides))
    assert len(expected) == (7 if data is IMAGES else 13)
    for finished in run(overrides):
        logged = {key: value for row in finished.rows for key, value in row.items()}
        found = {key: logged[key] for key in expected}
        assert found == pytest.approx(expected, rel=1e-12, abs=0)
