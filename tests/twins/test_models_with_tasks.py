"""Models with the tasks that they are made for: the same numbers however the work is divided."""

import numpy as np
import pytest
from asserts import assert_rows_close
from made_runs import OTHER
from short_runs import lines

from pipeline.run.transfer import export_tested
from pipeline.storage.run_folder import RunFolder

FP64 = (
    "logger=none accelerator=cpu train.precision=fp64 train.log_every=1 train.steps=4 "
    "train.batch_size=8 train.eval_every=2steps train.eval_batch_size=13 optimizer.lr=0.01"
)
SMALL = "model.width=8 model.heads=2 model.depth=1"
UNET = "model=unet model.width=4 model.groups=2 model.depth=1"
TEXT = "dataset=text dataset.length=9 dataset.max_bytes=1_500"
DIGITS = "dataset=digits dataset.limit=40"
VIEWS = f"{DIGITS} task=contrastive task.group=10 dataset.augment=true dataset.crop_padding=1"
CASES = {
    # Without samples, which are compared in test_generated_samples.py.
    "encoder_decoder": f"model=encoder_decoder {SMALL} dataset=reverse dataset.samples=40 "
    "dataset.length=5 dataset.vocabulary=7 train.label_smoothing=0.1 task=seq2seq task.samples=0",
    "bert": f"model=bert {SMALL} {TEXT} task=masked_language",
    "unet": f"{UNET} {DIGITS} task=denoising task.samples=0",
    "two views": f"model=vit model.patch=4 {SMALL} {VIEWS}",
    "two views, in parts": f"model=resnet18 model.width=4 {VIEWS} train.accumulate=2",
    "own, of a whole batch": f"model=mlp model.hidden=[5] {DIGITS} task=own task.targets=[label] "
    "task.torch=own_losses:torch_pairs task.jax=own_losses:jax_pairs task.metrics=[distance] "
    "task.whole_batch=true task.group=7 task.options={margin:0.5}",
    # Not relu: two images without any active unit have the same outputs, and either is the nearer view.
    "two views, own": f"model=mlp model.hidden=[5] model.activation=gelu {DIGITS} "
    "dataset.augment=true task=own task.torch=own_losses:torch_simclr task.jax=own_losses:jax_simclr "
    "task.metrics=[accuracy] task.views={view:image} task.outputs=6 task.whole_batch=true task.group=7",
    "unet of scenes": f"{UNET} dataset=scenes dataset.samples=40 dataset.size=12 dataset.cell=8",
}
METRICS = {
    "encoder_decoder": {"loss", "perplexity", "accuracy", "exact_match"},
    "bert": {"loss", "perplexity", "accuracy"},
    "unet": {"loss"},
    "two views": {"loss", "accuracy"},
    "two views, in parts": {"loss", "accuracy"},
    "own, of a whole batch": {"loss", "distance"},
    "two views, own": {"loss", "accuracy"},
    "unet of scenes": {"loss", "accuracy", "mean_iou"},
}
FAST = ("encoder_decoder", "two views", "own, of a whole batch")
EACH = [pytest.param(name, marks=[pytest.mark.slow] * (name not in FAST)) for name in CASES]


@pytest.mark.parametrize("name", EACH)
def test_backends_parts_of_a_batch_and_devices_make_no_difference(train, tmp_path, name):
    case, parts = f"{FP64} {CASES[name]}", "train.accumulate=2"
    assert train("torch", "torch", case) == 0
    assert train("jax", "jax", case) == 0
    assert train("divided", "jax", f"{case} {parts} accelerator.devices=2") == 0
    assert train("parts", "torch", f"{case} {parts}") == 0
    rows = lines(tmp_path / "torch")
    for other in ("jax", "divided", "parts"):
        assert_rows_close(lines(tmp_path / other), rows, rtol=1e-10, atol=1e-12)
    assert {key for row in rows for key in row if key.startswith("val/")} == {
        f"val/{metric}" for metric in METRICS[name]
    }
    losses = [row["train/loss"] for row in rows if "train/loss" in row]
    assert len(losses) == 4
    assert len({f"{loss:.6f}" for loss in losses}) == 4


PRETRAINED = [pytest.param("torch"), pytest.param("jax", marks=pytest.mark.slow)]


@pytest.mark.parametrize("backend", PRETRAINED)
def test_a_linear_probe_starts_from_a_run_of_either_backend_and_trains_its_head_alone(
    train, tmp_path, backend
):
    steps, first = f"{FP64} train.ema=0.5", tmp_path / "first"
    assert train("first", backend, f"experiment=digits_contrastive {steps}") == 0
    rows, weights = {}, {}
    for side in OTHER:
        probe = f"experiment=digits_probe {steps} model.weights={first}"
        assert train(side, side, probe) == 0
        rows[side] = lines(tmp_path / side)
        weights[side] = exported(tmp_path / side)
    assert_rows_close(rows["jax"], rows["torch"], rtol=1e-10, atol=1e-12)
    start = exported(first)
    for name in ("conv1.weight", "conv2.bias"):
        for found in weights.values():
            np.testing.assert_allclose(found[name], start[name], rtol=1e-12)
    assert weights["jax"]["fc.0.weight"].shape == (10, 256)
    losses = [row["train/loss"] for row in rows["torch"] if "train/loss" in row]
    assert losses[-1] != losses[0]


def exported(run):
    """Averaged weights of the checkpoint of a run that is tested."""
    [portable] = export_tested(run, "checkpoint")
    return portable.state.averages


@pytest.mark.slow
@pytest.mark.parametrize("backend", OTHER)
@pytest.mark.parametrize("name", ["encoder_decoder", "unet", "two views, in parts"])
def test_a_model_of_several_inputs_or_views_goes_on_on_the_other_backend(
    train, tmp_path, name, backend
):
    case = f"{FP64} {CASES[name]} train.ema=0.9"
    assert train("whole", backend, case) == 0
    assert train("first", backend, f"{case} train.stop_after=1") == 130
    assert train("second", OTHER[backend], f"{case} resume={tmp_path / 'first'}") == 0
    assert_rows_close(lines(tmp_path / "second"), lines(tmp_path / "whole"), rtol=1e-10, atol=1e-12)
    assert RunFolder(tmp_path / "second").result.backend == OTHER[backend]
