"""Every preset that needs image files trains and tests through run.py, with files from a mirror."""

import json
import os
import sys
from pathlib import Path

import pytest
import warm_start

ROOT = Path(__file__).parents[4]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "source", "backend"),
    [
        ("dataset=mnist", "torchvision", "jax"),
        ("dataset=fashion_mnist", "tfds", "jax"),
        ("dataset=cifar10", "tfds", "torch"),
        ("dataset=cifar100", "torchvision", "jax"),
        ("experiment=cifar10_cnn", "torchvision", "torch"),
        ("experiment=cifar10_cnn", "tfds", "jax"),
    ],
)
def test_a_preset_downloads_trains_and_tests(mirror, tmp_path, preset, source, backend):
    done = warm_start.run(
        [
            sys.executable, str(ROOT / "run.py"), preset, f"backend={backend}",
            f"dataset.source={source}", "dataset.download=true", f"dataset.root={tmp_path}/data",
            "logger=none", "train.batch_size=4", "train.steps=3", "name=run", "accelerator=cpu",
        ],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TANDEM_PROGRESS": "plain"},
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "outputs" / "run" / "result.json").read_text())
    assert (result["status"], result["steps"]) == ("completed", 3)
    assert 0 <= result["test"]["test/accuracy"] <= 1
    assert result["config"]["dataset"]["source"] == source
