"""Every YAML file below conf/ composes, and every option of every group runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.config import Config, TrainConfig
from pipeline.datasets import images
from pipeline.keys import CONF

ROOT = CONF.parent
CHOICES = sorted(
    f"{file.parent.relative_to(CONF)}={file.stem}"
    for file in CONF.rglob("*.yaml")
    if file.parent != CONF
)
BACKENDS = ("torch", "jax")

# Two steps of the smallest run there is; what an option needs beside it stands below.
SMALL = (
    "logger=none",
    "accelerator=cpu",
    "train.steps=2",
    "dataset.limit=64",
    "train.batch_size=16",
)
PHOTOGRAPHS = ("dataset=synthetic", "dataset.samples=256")  # as large as CIFAR's
NEEDS = {
    "accelerator=slurm": ("accelerator.kind=cpu",),
    "dataset=line": ("model=linear", "dataset.limit=null", "train.batch_size=5"),
    "experiment=line": ("dataset.limit=null", "train.batch_size=5"),
    "experiment=cifar10_cnn": PHOTOGRAPHS,
    "experiment=cifar10_resnet18": (*PHOTOGRAPHS, "model.width=8"),
    "model=own": ("model.torch=tests.own_models:TorchNet", "model.jax=tests.own_models:FlaxNet"),
    "dataset=text": ("model=gpt", "dataset.max_bytes=50_000"),
    "experiment=text_gpt": ("dataset.max_bytes=50_000",),
    **{f"model=vit_{size}": (*PHOTOGRAPHS, "model.depth=1") for size in ("tiny", "small", "base")},
    **{
        f"model={name}": ("dataset=text", "dataset.max_bytes=50_000", *smaller)
        for name, smaller in {
            "gpt": (),
            "gpt2": ("model.depth=1",),
            "gpt2_medium": ("model.depth=1", "model.width=64"),
            "gpt2_large": ("model.depth=1", "model.width=80"),
            "gpt2_xl": ("model.depth=1", "model.width=100"),
        }.items()
    },
}
# Sets that have to be fetched are read in tests/pipeline/datasets; a GPU is not everywhere.
NOT_HERE = {f"dataset={name}" for name in images.CLASSES}
NOT_HERE |= {"accelerator=gpu", "accelerator=multi_gpu"}


def train(folder: Path, *overrides: str) -> dict:
    """Run a command to its end and return its result file."""
    done = subprocess.run(
        [sys.executable, "run.py", *overrides, f"hydra.run.dir='{folder}'"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "result.json").read_text())


@pytest.mark.parametrize(
    ("choice", "backend"),
    [
        # By turns; with its other backend each leaves the everyday suite.
        pytest.param(choice, backend, marks=[pytest.mark.slow] * ((number + place) % 2))
        for number, choice in enumerate(CHOICES)
        for place, backend in enumerate(BACKENDS)
    ],
)
def test_it_composes_to_a_typed_config(configure, choice, backend):
    overrides = choice if choice.startswith("backend=") else f"{choice} backend={backend}"
    config = configure(overrides)
    assert isinstance(config, Config)
    assert isinstance(config.train, TrainConfig)
    if not choice.startswith("backend="):
        assert config.backend.name == backend


def test_loggers_can_be_listed(configure):
    logger = configure("logger=[csv,tensorboard]").logger
    assert (logger.wandb, logger.csv.file, logger.tensorboard.folder) == (
        None, "metrics.csv", "tensorboard",
    )  # fmt: skip
    assert configure("logger=none").logger.wandb is None
    assert configure("").logger.wandb is not None


@pytest.mark.parametrize("debug", [choice for choice in CHOICES if choice.startswith("debug=")])
def test_a_debug_preset_goes_with_any_experiment_and_wins_over_it(configure, debug):
    config = configure(f"{debug} experiment=cifar10_cnn")
    assert config.dataset.name == "cifar10"
    assert config.logger.wandb is None


@pytest.mark.parametrize(
    "file",
    sorted(CONF.glob("experiment/*.yaml")) + sorted(CONF.glob("debug/*.yaml")),
    ids=lambda file: file.stem,
)
def test_a_preset_says_what_it_is_for(file):
    package, purpose = file.read_text().splitlines()[:2]
    assert package == "# @package _global_"
    assert purpose.startswith("# ")


@pytest.mark.slow
@pytest.mark.parametrize("choice", [choice for choice in CHOICES if choice not in NOT_HERE])
def test_it_runs(choice, tmp_path):
    group = choice.partition("=")[0]
    small = [override for override in SMALL if not override.startswith(f"{group}=")]
    backend = BACKENDS[CHOICES.index(choice) % 2]  # by turns: both are compared elsewhere
    chosen = [] if group == "backend" else [f"backend={backend}"]
    result = train(tmp_path / "run", *chosen, *small, choice, *NEEDS.get(choice, ()), "seed=1")
    assert (result["status"], result["steps"]) == ("completed", 2)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_line_is_learned_to_a_mean_squared_error_below_a_thousandth(backend, tmp_path):
    result = train(tmp_path / "run", "experiment=line", f"backend={backend}", "logger=none")
    assert result["test"]["test/mse"] < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("preset", [(), ("experiment=digits_cnn",)], ids=["defaults", "digits_cnn"])
def test_digits_are_learned_to_97_percent(preset, backend, tmp_path):
    result = train(tmp_path / "run", *preset, f"backend={backend}", "logger=none")
    assert result["test"]["test/accuracy"] >= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_overfit_brings_the_loss_to_nothing(backend, tmp_path):
    result = train(tmp_path / "run", "debug=overfit", f"backend={backend}")
    assert result["metrics"]["train/loss"] < 1e-3
