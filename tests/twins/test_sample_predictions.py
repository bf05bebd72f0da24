"""After a test, a run has a prediction for each sample, in the order of the test set."""

import jax
import numpy as np
import pytest
import torch
from asserts import assert_predictions_close
from torch.utils import _pytree as pytree

import tandem
from pipeline.data import sources
from pipeline.storage.predictions import name_of, read_predictions
from pipeline.storage.run_folder import PREDICTIONS, RunFolder

SMALL = "dataset.limit=160 train.batch_size=16 train.eval_batch_size=77 train.steps=12"
FP64 = f"train.precision=fp64 logger=none accelerator=cpu {SMALL}"


@pytest.fixture
def finished(train, tmp_path):
    """A function that runs an experiment, and returns its predictions and result."""

    def ran(backend, overrides, name="run"):
        assert train(name, backend, overrides) == 0
        return read_predictions(tmp_path / name), RunFolder(tmp_path / name).result

    return ran


@pytest.mark.parametrize("model", [pytest.param("cnn", marks=pytest.mark.slow), "mlp"])
def test_predictions_are_the_same_on_both_backends_and_match_the_metrics(
    run, configure, tmp_path, model
):
    overrides = f"{FP64} model={model} train.label_smoothing=0.1 train.ema=0.5"
    finished = dict(zip(("torch", "jax"), run(overrides), strict=True))
    test = sources.load(configure(overrides).dataset).test
    found = {backend: read_predictions(tmp_path / backend) for backend in finished}
    for backend, said in found.items():
        metrics = finished[backend].result.test
        np.testing.assert_array_equal(said.target, test.fields["label"])
        assert len(test) == 359  # which neither the batch nor half of it divides
        assert said.loss.mean() == pytest.approx(metrics["test/loss"], rel=1e-12)
        assert np.mean(said.predicted == said.target) == metrics["test/accuracy"]
        assert said.confusion(10).trace() / len(test) == metrics["test/accuracy"]
        assert said.confusion(10).sum(axis=1).tolist() == np.bincount(test.fields["label"]).tolist()
    by_torch, by_jax = found.values()
    assert_predictions_close(by_torch, by_jax)
    assert by_torch.worst_images.max() == 255
    assert by_torch.classes.tolist() == by_jax.classes.tolist() == list("0123456789")


def test_each_prediction_is_that_of_its_own_sample(finished, configure, tmp_path):
    said, result = finished("torch", f"{FP64} model=linear")
    state = torch.load(result.best.checkpoint, weights_only=True)["state_dict"]
    weight, bias = (state[f"model.fc.{name}"].numpy() for name in ("weight", "bias"))
    data = sources.load(configure(FP64).dataset)
    mean, std = data.moments["image"]
    inputs = ((data.test.fields["image"] - mean) / std).transpose(0, 3, 1, 2)
    logits = inputs.reshape(len(inputs), -1) @ weight.T + bias
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = np.arange(len(chances))
    np.testing.assert_array_equal(said.predicted, chances.argmax(axis=1))
    np.testing.assert_allclose(
        said.loss, -np.log(chances[rows, data.test.fields["label"]]), rtol=1e-10
    )
    np.testing.assert_allclose(said.confidence, chances.max(axis=1), rtol=1e-10)


@pytest.mark.parametrize(
    "size", [7, 1000, *(pytest.param(size, marks=pytest.mark.slow) for size in (1, 359))]
)
def test_predictions_do_not_depend_on_devices_or_batch_size(finished, size):
    overrides = f"{FP64} model=linear train.eval_batch_size={size}"
    one, _ = finished("jax", overrides, "one")
    two, _ = finished("jax", f"{overrides} accelerator.devices=2", "two")
    assert_predictions_close(one, two, rtol=1e-12)


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_testing_a_checkpoint_writes_predictions_on_either_backend(train, tmp_path, backend):
    assert train("run", backend, f"{FP64} model=linear") == 0
    known = read_predictions(tmp_path / "run")
    for other in ("torch", "jax"):
        tested = f"{FP64} model=linear mode=test checkpoint={tmp_path / 'run'}"
        assert train(f"tested-{other}", other, tested) == 0
        assert_predictions_close(read_predictions(tmp_path / f"tested-{other}"), known)


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_resumed_run_removes_old_predictions(train, tmp_path, backend):
    assert train("run", backend, f"{FP64} model=linear train.steps=6") == 0
    assert (tmp_path / "run" / PREDICTIONS).exists()
    longer = f"{FP64} model=linear resume={tmp_path / 'run'} train.stop_after=9"
    assert train("run", backend, longer) == 130
    assert not (tmp_path / "run" / PREDICTIONS).exists()


LANGUAGE = (
    "model=gpt model.depth=1 model.heads=2 model.width=8 dataset=text dataset.length=16 "
    "dataset.max_bytes=5_000 train.batch_size=16"
)


SCENES = "dataset=scenes dataset.samples=24 dataset.size=16 train.batch_size=8"
OTHERS = {
    "regression": "model=linear dataset=line train.batch_size=5",
    "own": "model=linear dataset=line train.batch_size=5 task=own task.torch=tests.own_losses:torch_huber "
    "task.jax=tests.own_losses:jax_huber task.targets=[target] task.metrics=[mae]",
    "multilabel": f"{SCENES} task=multilabel model=cnn model.channels=[2,2] model.hidden=[4]",
    "segmentation": f"{SCENES} model=unet model.width=4 model.groups=2 model.depth=1",
    "seq2seq": "dataset=reverse dataset.samples=20 dataset.length=4 model=encoder_decoder model.depth=1 "
    "model.heads=2 model.width=8 train.batch_size=4",
}


@pytest.mark.parametrize("case", OTHERS)
def test_what_other_tasks_keep_is_the_same_on_both_backends_and_what_the_model_predicts(
    run, train, tmp_path, case
):
    run(f"train.precision=fp64 train.steps=3 {OTHERS[case]}")
    runs = [tandem.load(tmp_path / backend) for backend in ("torch", "jax")]
    name = "predicted" if case in ("segmentation", "seq2seq") else "outputs"
    by_torch, by_jax = (one.predictions[name] for one in runs)
    np.testing.assert_allclose(by_torch, by_jax, rtol=1e-10, atol=1e-12)
    test = runs[1].data.test
    assert len(by_jax) == len(test)
    if case == "seq2seq":
        right = (by_jax == test.fields["target"]) | (test.fields["target"] == 0)
        assert right.all(axis=1).mean() >= runs[1].result.test["test/exact_match"]
        return
    outputs = runs[1].predict(*(test.fields[field] for field in runs[1].data.inputs))
    expected = outputs if name == "outputs" else outputs.argmax(axis=-1)
    np.testing.assert_allclose(by_jax, expected, rtol=1e-12)
    if case == "segmentation":
        accuracy = (by_jax == test.fields["mask"]).mean()
        assert accuracy == pytest.approx(runs[1].result.test["test/accuracy"], rel=1e-12)


def test_a_structure_of_outputs_is_kept_by_name():
    leaves = {"mean": 1, "parts": [2, {"b": 3}]}
    expected = ["outputs/mean", "outputs/parts/0", "outputs/parts/1/b"]
    for flatten in (pytree.tree_flatten_with_path, jax.tree.flatten_with_path):
        assert [name_of(path) for path, _ in flatten(leaves)[0]] == expected
        assert [name_of(path) for path, _ in flatten(1)[0]] == ["outputs"]


@pytest.mark.parametrize("backend", ["torch", pytest.param("jax", marks=pytest.mark.slow)])
def test_a_language_model_writes_no_predictions(finished, tmp_path, backend):
    said, result = finished(backend, f"logger=none accelerator=cpu train.steps=2 {LANGUAGE}")
    assert said is None
    assert not (tmp_path / "run" / PREDICTIONS).exists()
    assert result.test["test/loss"] > 0
    assert tandem.load(tmp_path / "run").predictions is None


def test_too_many_outputs_are_not_kept_and_the_run_says_so(train, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lightning_impl.tasks.task_loss.are_kept", lambda shapes, samples: False)
    monkeypatch.setenv("TANDEM_PROGRESS", "plain")
    assert (
        train("run", "torch", f"logger=none accelerator=cpu train.steps=2 {OTHERS['regression']}")
        == 0
    )
    assert not (tmp_path / "run" / PREDICTIONS).exists()
    assert (
        "its outputs are more than 16,777,216 numbers: no predictions.npz"
        in capsys.readouterr().out
    )
