"""Every YAML file below conf/ composes, and presets reach what they are for."""

import json
import os
import sys
from pathlib import Path

import pytest
import warm_start

from pipeline.config.checks.keys import CONF
from pipeline.config.experiment import Config
from pipeline.config.train import TrainConfig

ROOT = CONF.parent
CHOICES = sorted(
    f"{file.parent.relative_to(CONF)}={file.stem}"
    for file in CONF.rglob("*.yaml")
    if file.parent != CONF
)
BACKENDS = ("torch", "jax")


def train(folder: Path, *overrides: str) -> dict:
    """Run a command to its end and return its result file."""
    done = warm_start.run(
        [sys.executable, "run.py", *overrides, f"hydra.run.dir='{folder}'"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"},
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
def test_every_option_composes_to_a_typed_config(configure, choice, backend):
    overrides = choice if choice.startswith("backend=") else f"{choice} backend={backend}"
    config = configure(overrides)
    assert isinstance(config, Config)
    assert isinstance(config.train, TrainConfig)
    if not choice.startswith("backend="):
        assert config.backend.name == backend


def test_a_list_of_loggers_can_be_chosen(configure):
    logger = configure("logger=[csv,tensorboard]").logger
    assert (logger.wandb, logger.csv.file, logger.tensorboard.folder) == (
        None, "metrics.csv", "tensorboard",
    )  # fmt: skip
    assert configure("logger=none").logger.wandb is None
    assert configure("").logger.wandb is not None


@pytest.mark.parametrize("debug", [choice for choice in CHOICES if choice.startswith("debug=")])
def test_a_debug_preset_combines_with_any_experiment_and_overrides_it(configure, debug):
    config = configure(f"{debug} experiment=cifar10_cnn")
    assert config.dataset.name == "cifar10"
    assert config.logger.wandb is None


@pytest.mark.parametrize(
    "file",
    sorted(CONF.glob("experiment/*.yaml")) + sorted(CONF.glob("debug/*.yaml")),
    ids=lambda file: file.stem,
)
def test_a_preset_states_its_purpose(file):
    package, purpose = file.read_text().splitlines()[:2]
    assert package == "# @package _global_"
    assert purpose.startswith("# ")


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_line_reaches_a_mean_squared_error_below_1e_3(backend, tmp_path):
    result = train(tmp_path / "run", "experiment=line", f"backend={backend}", "logger=none")
    assert result["test"]["test/mse"] < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "preset"),
    [("torch", ()), ("jax", ("experiment=digits_cnn",))],
    ids=["defaults", "digits_cnn"],
)
def test_digits_reach_97_percent_accuracy(backend, preset, tmp_path):
    result = train(tmp_path / "run", *preset, f"backend={backend}", "logger=none")
    assert result["test"]["test/accuracy"] >= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_overfit_reaches_zero_loss(backend, tmp_path):
    result = train(tmp_path / "run", "debug=overfit", f"backend={backend}")
    assert result["metrics"]["train/loss"] < 1e-3
