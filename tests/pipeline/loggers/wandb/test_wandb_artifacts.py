"""Uploads of a completed run to W&B: artifacts, the worst samples and the confusion matrix."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from offline_wandb import read_run

from pipeline.config.loggers import WandbConfig
from pipeline.errors import UserError
from pipeline.loggers import RunLabels
from pipeline.loggers.wandb.artifacts import MATRIX, WORST, pictures
from pipeline.loggers.wandb.logger import open_wandb
from pipeline.storage.predictions import Predictions

SUMMARY = {"status": "completed", "best.metric": "val/accuracy", "best.value": 0.9, "best.step": 40}


pytestmark = pytest.mark.usefixtures("wandb_offline")


def predictions(samples=10_000, classes=10, shown=16, channels=1) -> Predictions:
    """Predictions of which nine in ten are right."""
    random = np.random.default_rng(0)
    target = np.arange(samples) % classes
    predicted = np.where(random.random(samples) < 0.9, target, (target + 1) % classes)
    loss = random.random(samples)
    worst = np.argsort(-loss)[:shown]
    images = random.integers(0, 17, (shown, 8, 8, channels), dtype=np.uint8)
    return Predictions(target, predicted, loss, random.random(samples), worst, images)


@pytest.fixture
def run_folder(tmp_path) -> Path:
    """A folder as a run leaves it."""
    folder = tmp_path / "outputs" / "mine"
    for path, content in {
        ".hydra/config.yaml": "seed: 0\n",
        "run.json": "{}",
        "checkpoints/best-000040.ckpt": "x" * 3000,
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    return folder


def finished(folder, config=None, exit_code=0):
    """W&B run of a folder, after it has ended."""
    best = {"best.checkpoint": str(folder / "checkpoints" / "best-000040.ckpt")}
    logger = open_wandb(config or WandbConfig(), folder, RunLabels(None, "mine", "id1"))
    logger.log(40, {"test/accuracy": 0.9})
    logger.finish(exit_code, SUMMARY | best)
    return read_run(folder)


def test_the_config_and_the_best_checkpoint_are_artifacts_in_the_run_folder(run_folder):
    config, model = finished(run_folder).artifacts
    assert (config.name, config.type, list(config.contents)) == (
        "config-id1", "config", ["config.yaml"],
    )  # fmt: skip
    assert (model.name, model.type, set(model.aliases)) == (
        "model-id1",
        "model",
        {"best", "latest"},
    )
    assert model.metadata == {"best.metric": "val/accuracy", "best.value": 0.9, "best.step": 40}
    assert sorted(model.contents) == ["checkpoints/best-000040.ckpt", "run.json"]
    for path in (config.contents | model.contents).values():
        assert path.is_absolute(), "a sync may start elsewhere"
        assert path.is_relative_to(run_folder), (
            "the folder may be carried to where there is a network"
        )
        assert path.is_file()
    # The checkpoint is not copied; what may be replaced is.
    assert model.contents["checkpoints/best-000040.ckpt"].parent == run_folder / "checkpoints"
    assert model.contents["run.json"].is_relative_to(run_folder / "wandb")
    assert "WANDB_DATA_DIR" not in os.environ


def test_an_incomplete_run_has_no_artifacts(run_folder):
    assert finished(run_folder, exit_code=130).artifacts == []


@pytest.mark.parametrize("kept", [[], ["config"], ["checkpoint"]])
def test_the_config_selects_the_artifacts(run_folder, kept):
    run = finished(run_folder, WandbConfig(artifacts=kept))
    kinds = {"config": "config", "model": "checkpoint"}
    assert [kinds[artifact.type] for artifact in run.artifacts] == kept


def test_a_checkpoint_above_the_size_limit_is_left_out_and_reported(run_folder, capsys):
    (run_folder / "checkpoints" / "best-000040.ckpt").write_bytes(bytes(3 * 2**20))
    run = finished(run_folder, WandbConfig(checkpoint_mb=2))
    assert [artifact.type for artifact in run.artifacts] == ["config"]
    told = capsys.readouterr().out.splitlines()[-1]
    assert told == (
        "W&B does not get the best checkpoint: its 3 MB are above logger.wandb.checkpoint_mb=2"
    )


def test_an_unknown_artifact_is_refused():
    allowed = "logger.wandb.artifacts=weights: must be a list of config, checkpoint, report"
    with pytest.raises(UserError, match=re.escape(allowed)):
        WandbConfig(artifacts=["weights"])


def test_predictions_are_a_table_of_the_worst_samples_and_a_confusion_matrix(run_folder):
    found = predictions()
    found.write(run_folder)
    run = finished(run_folder, WandbConfig(artifacts=[], predictions=12))
    assert run.rows[-1]["_step"] == 40, "in the row of the last step"
    assert run.rows[-1]["test/accuracy"] == 0.9
    table = logged_table(run, WORST)
    assert table["columns"] == ["image", "sample", "target", "predicted", "loss", "confidence"]
    assert len(table["data"]) == 12
    _, sample, target, predicted, loss, confidence = table["data"][0]
    assert loss == found.loss.max()
    assert (target, predicted) == (str(found.target[sample]), str(found.predicted[sample]))
    assert confidence == found.confidence[sample]
    images = [
        path
        for artifact in run.artifacts
        for name, path in artifact.contents.items()
        if name.endswith(".png")
    ]
    assert len(images) == 12
    assert all(path.is_relative_to(run_folder) for path in images), "and not in the home folder"
    assert images[0].read_bytes().startswith(b"\x89PNG")
    counts = logged_table(run, f"{MATRIX}_table")
    assert counts["columns"] == ["Actual", "Predicted", "nPredictions"]
    assert len(counts["data"]) == 100, "by pairs of classes, not by samples"
    assert sum(row[2] for row in counts["data"]) == 10_000
    assert ["0", "0", np.sum((found.target == 0) & (found.predicted == 0))] in counts["data"]
    assert sum(file.stat().st_size for file in run.files) < 20_000


def test_classes_are_shown_by_name(run_folder):
    names = np.array(
        ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    )
    found = replace(predictions(), classes=names)
    found.write(run_folder)
    run = finished(run_folder)
    _, sample, target, predicted, *_ = logged_table(run, WORST)["data"][0]
    assert (target, predicted) == (names[found.target[sample]], names[found.predicted[sample]])
    counts = logged_table(run, f"{MATRIX}_table")["data"]
    cats = np.sum((found.target == 3) & (found.predicted == 4))
    assert ["cat", "deer", cats] in counts
    assert {row[0] for row in counts} == {row[1] for row in counts} == set(names)


@pytest.mark.parametrize(("classes", "images"), [(101, True), (10, False)])
def test_large_confusion_matrices_and_missing_images_are_left_out(run_folder, classes, images):
    found = predictions(classes=classes)
    if not images:
        found = replace(found, worst_images=None)
    found.write(run_folder)
    run = finished(run_folder)
    assert any(key.startswith(MATRIX) for key in run.rows[-1]) == (classes <= 100)
    assert ("image" in logged_table(run, WORST)["columns"]) == images


def test_predictions_0_shows_no_predictions(run_folder):
    predictions().write(run_folder)
    run = finished(run_folder, WandbConfig(artifacts=[], predictions=0))
    assert not any(key.startswith((WORST, MATRIX)) for key in run.rows[-1])
    assert run.artifacts == []


def test_images_of_many_channels_show_their_first_ones():
    assert pictures(np.zeros((2, 4, 4, 5), np.uint8)).shape == (2, 4, 4, 3)
    assert pictures(np.zeros((1, 4, 4, 2), np.uint8)).shape == (1, 4, 4, 1)


def logged_table(run, key):
    """A logged table of a run, without its images."""
    path = run.rows[-1][f"{key}.path"]
    return json.loads((run.files[-1].parent / "files" / path).read_text())
