"""A user's own arrays, function, table and tokens: the same batches on both backends, and runs on them."""

import numpy as np
import pytest
from asserts import assert_rows_close

import flax_impl.data.batches
import flax_impl.data.samples
import flax_impl.device
import lightning_impl.data.batches
import lightning_impl.data.samples
import lightning_impl.device
import pipeline.data.dataset
from pipeline.data.batch_plan import make_batch_plan
from pipeline.data.sources import load
from pipeline.errors import UserError
from pipeline.storage.run_folder import RunFolder

RANDOM = np.random.default_rng(0)
LABELS = np.arange(120) % 3
IMAGES = (RANDOM.random((120, 6, 6, 2)) + LABELS[:, None, None, None]).astype(np.float32)
OWN = """
import numpy as np

def load(count):
    features = np.random.default_rng(1).normal(size=(count, 4))
    return {"features": features, "target": features.sum(axis=1)}


def keep(random, shapes):
    return random.random(shapes["features"]) < 0.8


def too_few(random, shapes):
    return random.random(3)
"""
NOISY = """
import torch
from flax import linen

class TorchGate(torch.nn.Module):
    def __init__(self, input_shape, outputs):
        super().__init__()
        self.head = torch.nn.Linear(*input_shape, outputs)

    def forward(self, features, keep):
        return self.head(features * keep)


class FlaxGate(linen.Module):
    input_shape: tuple
    outputs: int

    @linen.compact
    def __call__(self, features, keep):
        return linen.Dense(self.outputs, name="head")(features * keep)


def loss(outputs, batch):
    noisy = batch["target"][:, 0] + 0.1 * batch["eps"][:, 0] + 0.1 * batch["chance"][:, 1]
    error = outputs[:, 0] - noisy
    return {"loss": error**2, "kept": batch["keep"].sum(1) / 4.0}
"""


@pytest.fixture
def data(tmp_path, monkeypatch):
    """Overrides for each kind of data, made in the test's folder."""
    np.savez(tmp_path / "images.npz", image=IMAGES, label=LABELS)
    RANDOM.integers(0, 40_000, 2000).astype("<u2").tofile(tmp_path / "ids.bin")
    table = [f"{row / 7:.3f},{'abc'[row % 3]},{row % 2 == 0}" for row in range(120)]
    (tmp_path / "table.csv").write_text("\n".join(["size,kind,even", *table]))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "users_own_data.py").write_text(OWN)
    (tmp_path / "users_noise.py").write_text(NOISY)
    root = f"dataset.root={tmp_path}"
    return {
        "arrays": f"dataset=arrays dataset.path={tmp_path}/images.npz {root} dataset.augment=true "
        "dataset.crop_padding=1 dataset.normalize=[image]",
        "own": f"dataset=own dataset.load=users_own_data:load dataset.options={{count:90}} {root}",
        "table": f"dataset=table dataset.path={tmp_path}/table.csv dataset.targets=[kind] {root}",
        "tokens": f"dataset=tokens dataset.path={tmp_path}/ids.bin dataset.length=9 {root} "
        "dataset.folds=4 dataset.fold=1",
    }


@pytest.fixture(params=["arrays", "own", "table", "tokens"])
def kind(request):
    return request.param


def batches(config):
    """Training batches of both backends."""
    plan = make_batch_plan(config, load(config.dataset, config.task))
    prepared = lightning_impl.device.prepare(config), flax_impl.device.prepare(config)
    by_torch = lightning_impl.data.batches.TrainBatches(plan, prepared[0], 1, lambda: 0)
    return by_torch, flax_impl.data.batches.TrainBatches(plan, prepared[1], 1)


def test_both_backends_get_the_same_batches_however_they_are_kept(
    configure, data, monkeypatch, kind
):
    config = configure(f"accelerator=cpu train.batch_size=16 {data[kind]}")
    digests = []
    for where in ("on the device", "memory-mapped", "read batch by batch"):
        if where == "memory-mapped":
            monkeypatch.setattr(lightning_impl.data.samples, "RESIDENT_BYTES", 0)
            monkeypatch.setattr(flax_impl.data.samples, "RESIDENT_BYTES", 0)
        if where == "read batch by batch":
            monkeypatch.setattr(pipeline.data.dataset, "LARGE", 0)
        by_torch, by_jax = batches(config)
        is_stored = where == "read batch by batch" and kind != "own"  # whose arrays are in memory
        assert bool(by_torch.plan.data.train.stored) is is_stored
        found, wanted = by_torch.augmented(0), by_jax.augmented(0)
        assert set(found) == set(wanted)
        for name in found:
            np.testing.assert_array_equal(found[name].cpu().numpy(), np.asarray(wanted[name]))
        digests += [by_torch.digest(), by_jax.digest()]
        first = next(iter(by_torch))
        if kind == "table":
            assert first["features"].shape == (16, 3)
            assert abs(float(first["features"][:, 0].mean())) < 1  # normalised
        if kind == "arrays":
            assert first["image"].shape == (16, 2, 6, 6)
            assert abs(float(first["image"].mean())) < 0.5  # normalised
        by_torch.close()
        by_jax.close()
    assert len(set(digests)) == 1


def test_images_of_floats_train_and_test_the_same_on_both_backends(run, data):
    by_torch, by_jax = run(
        f"{data['arrays']} model=simple_cnn model.channels=3 train.batch_size=16 train.steps=8 "
        "train.precision=fp64 train.eval_every=4steps optimizer.lr=0.02"
    )
    assert by_torch.result.data_digest == by_jax.result.data_digest
    assert_rows_close(by_jax.rows, by_torch.rows, atol=1e-10)
    assert by_jax.result.test["test/accuracy"] > 0.5


NOISE = "{eps:normal,chance:uniform,keep:'users_own_data:keep'}"
OWN_TASK = (
    "model=own model.torch=users_noise:TorchGate model.jax=users_noise:FlaxGate task=own "
    "task.torch=users_noise:loss task.jax=users_noise:loss task.targets=[target] task.metrics=[kept] "
    f"task.inputs=[features,keep] task.noise={NOISE}"
)


def test_random_numbers_of_an_own_task_are_the_same_on_both_backends_in_model_and_loss(run, data):
    keys = f"{data['own']} {OWN_TASK} train.precision=fp64 train.steps=6 train.eval_every=2steps"
    by_torch, by_jax = run(f"{keys} train.batch_size=16 optimizer.lr=1e-9 train.eval_batch_size=7")
    assert_rows_close(by_jax.rows, by_torch.rows, atol=1e-10)
    assert by_torch.result.data_digest == by_jax.result.data_digest
    trained = [row["train/kept"] for row in by_jax.rows if "train/kept" in row]
    assert len(set(trained)) == 6  # drawn anew in every step
    assert np.mean(trained) == pytest.approx(0.8, abs=0.1)
    tested = [row["val/loss"] for row in by_jax.rows if "val/loss" in row]
    assert tested == pytest.approx([tested[0]] * len(tested), rel=1e-6)  # and never in evaluations


def drawn_at_first(config):
    """Random numbers of the first batch."""
    return make_batch_plan(config, load(config.dataset, config.task)).draws(0)


@pytest.mark.parametrize(
    ("changes", "key", "problem"),
    [
        ("task.noise={eps:gauss}", "task.noise.eps", "normal, uniform, or your function"),
        ("task.noise={target:normal}", "task.noise", "the data set has a field of this name"),
        ("task.noise={augment:normal}", "task.noise", "a name other than augment, counted"),
        (
            "task.noise={eps:'users_own_data:too_few'}",
            "task.noise.eps",
            r"array \[3\] of float64. Return numbers with a row for each sample, \[32, …\]",
        ),
        ("task.noise={eps:'users_own_data:load'}", "task.noise.eps", "it fails: TypeError"),
        ("task.noise={eps:normal} task.inputs=[eps]", "task.inputs", "noise behind it"),
    ],
)
def test_random_numbers_that_cannot_be_drawn_are_refused(configure, data, changes, key, problem):
    task = "task=own task.torch=users_noise:loss task.targets=[target]"
    config = configure(f"{data['own']} model=linear {task} {changes}")
    with pytest.raises(UserError, match=problem) as refused:
        drawn_at_first(config)
    assert refused.value.key == key


@pytest.mark.parametrize(
    ("kind", "backend", "model"),
    [
        ("own", "torch", "model=linear"),
        ("table", "torch", "model=mlp"),
        ("table", "jax", "model=mlp"),
        ("tokens", "jax", "model=gpt model.depth=1 model.width=8"),
    ],
)
def test_own_data_tables_and_tokens_run(train, tmp_path, data, kind, backend, model):
    keys = f"{data[kind]} {model} train.batch_size=16 train.steps=3 logger=none accelerator=cpu"
    assert train("run", backend, keys) == 0
    result = RunFolder(tmp_path / "run").result
    assert (result.status, result.steps) == ("completed", 3)
