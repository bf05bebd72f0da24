"""Every optimizer, schedule and model on both backends, for two hundred steps in float64.

The models of `test_lockstep.py` are compared there, with every two of their settings.
"""

import re
import subprocess
import sys

import pytest
from test_lockstep import FP64, TOLERANCE, assert_agree
from test_lockstep import MODELS as COVERED

from pipeline.config.checks.keys import CONF

DIGITS = "dataset.limit=160"
MLP = f"model=mlp model.hidden=[24,16] model.activation=tanh {DIGITS}"

OPTIMIZERS = {
    "adadelta": "optimizer=adadelta schedule=constant",
    "adagrad": "optimizer=adagrad optimizer.lr_decay=1e-3 schedule=linear",
    "adam": "optimizer=adam optimizer.no_decay=[bias] optimizer.weight_decay=0.01 schedule=step",
    "adamax": "optimizer=adamax schedule=multistep train.clip_value=0.01",
    "adamw": "optimizer=adamw optimizer.lr_factors={layers.0.*:0.1} schedule=one_cycle",
    "amsgrad": "optimizer=amsgrad schedule=exponential train.clip_norm=0.5",
    "lamb": "optimizer=lamb optimizer.no_decay=[bias,norm] schedule=polynomial",
    "lion": "optimizer=lion schedule=warmup_cosine train.ema=0.9",
    "muon": "optimizer=muon optimizer.adamw=[layers.2.*] schedule=cosine_restarts",
    "nadam": "optimizer=nadam schedule=cosine train.accumulate=4",
    "radam": "optimizer=radam schedule=cosine schedule.warmup=20 train.label_smoothing=0.1",
    "rmsprop": "optimizer=rmsprop optimizer.lr=1e-3 optimizer.momentum=0.9 optimizer.centered=true "
    "schedule=plateau schedule.patience=0 train.eval_every=10steps",
    "sgd": "optimizer=sgd optimizer.lr=0.05 train.frozen=[layers.1.*] schedule=polynomial",
}
SHARED = "train.randomness=shared model.dropout=0.1"
MODELS = {
    "resnet18": f"model=resnet18 model.width=4 {DIGITS} optimizer=adamw train.ema=0.9",
    "vit": f"model=vit model.patch=2 model.width=16 model.depth=2 model.drop_path=0.2 {DIGITS} "
    f"optimizer=sgd optimizer.lr=0.05 train.accumulate=2 {SHARED}",
    "gpt": "model=gpt model.width=16 model.depth=2 dataset=text dataset.length=16 "
    f"dataset.max_bytes=20_000 optimizer=muon optimizer.lr=0.005 train.clip_norm=1 {SHARED} "
    "task=language task.samples=0",
    # Deep and narrow, it amplifies rounding: on images of 8×8 to 5e-10 of the gradient in six steps.
    "resnet50": "model=resnet50 model.width=4 dataset=synthetic dataset.shape=[24,24,3] "
    "dataset.samples=160 optimizer=sgd optimizer.lr=1e-3 train.steps=20 train.eval_every=10steps",
    "unet": f"model=unet model.width=4 model.groups=2 model.depth=1 {DIGITS} task=denoising task.samples=0 "
    f"optimizer=adamw optimizer.lr=1e-3 train.ema=0.9 {SHARED}",
    "bert": "model=bert model.width=16 model.depth=2 dataset=text dataset.length=16 "
    f"dataset.max_bytes=20_000 task=masked_language train.accumulate=2 {SHARED}",
    "encoder_decoder": "model=encoder_decoder model.width=16 model.depth=1 dataset=reverse "
    f"dataset.samples=400 dataset.length=8 train.clip_norm=1 train.label_smoothing=0.1 {SHARED} "
    "task=seq2seq task.samples=0",
    "own": "model=own model.torch=tests.own_models:TorchNet model.jax=tests.own_models:FlaxNet "
    f"optimizer=lamb {DIGITS}",
}


def test_every_optimizer_schedule_and_model_is_in_a_table():
    # A user's own are compared in test_own_optimizers.py.
    assert {file.stem for file in (CONF / "optimizer").glob("*.yaml")} == {*OPTIMIZERS, "own"}
    words = {word for row in OPTIMIZERS.values() for word in row.split()}
    chosen = {word.removeprefix("schedule=") for word in words if word.startswith("schedule=")}
    assert {file.stem for file in (CONF / "schedule").glob("*.yaml")} == chosen | {"own"}
    models = {file.stem for file in (CONF / "model").glob("*.yaml")}
    sizes = {name for name in models if name.startswith(("vit_", "gpt2"))}
    assert models - sizes == {*MODELS, *COVERED}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_both_backends_agree_with_every_optimizer_and_schedule(run, name):
    torch_run, jax_run = run(f"{FP64} {MLP} {OPTIMIZERS[name]}")
    assert [row["step"] for row in torch_run.rows if "train/loss" in row] == list(range(1, 201))
    losses = [row["train/loss"] for row in torch_run.rows if "train/loss" in row]
    assert sum(losses[-20:]) < sum(losses[:20]), "it learns"
    assert_agree(torch_run, jax_run)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_both_backends_agree_on_every_model(run, name):
    torch_run, jax_run = run(f"{FP64} {MODELS[name]}")
    assert_agree(torch_run, jax_run, TOLERANCE)


@pytest.mark.slow
def test_the_agreement_table_has_a_cell_for_every_model_and_optimizer():
    script = CONF.parent / "benchmarks" / "agreement.py"
    few = ["--models", "linear", "--optimizers", "sgd,muon", "--steps", "5"]
    done = subprocess.run(
        [sys.executable, script, *few], capture_output=True, text=True, timeout=300, check=True
    )
    *_, header, _, row = done.stdout.splitlines()
    assert header == "| | sgd | muon |"
    values = [float(value) for value in re.findall(r"\de[-+]\d+", row)]
    assert row.startswith("| linear |")
    assert len(values) == 4
    assert max(values) < TOLERANCE
    shown = script.with_suffix(".md").read_text()
    assert all(f"\n| {name} | " in shown for name in OPTIMIZERS)
    assert all(f"| {name} |" in shown for name in ("resnet18", "vit", "gpt"))
