"""The worst test samples and the confusion matrix, in W&B's own types.

W&B draws a matrix from a table of one row for each pair of classes, whatever the number of samples.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config import WandbConfig
from pipeline.loggers.wandb.artifacts import copies_in
from pipeline.predictions import Predictions, read_predictions

if TYPE_CHECKING:
    import wandb

MATRIX = "test/confusion_matrix"
WORST = "test/worst"
MOST_CLASSES = 100  # W&B's tables end at 10,000 rows


def log_predictions(
    run: "wandb.Run",
    step: int,
    summary: Mapping[str, object],
    *,
    config: WandbConfig,
    folder: Path,
) -> None:
    """Show what the run predicted on the test set, if it kept that (`predictions.npz`).

    Args:
        run: the W&B run.
        step: its last, in whose row these go.
        summary: of the run.
        config: how many samples to show; 0 shows nothing.
        folder: of the run.
    """
    found = read_predictions(folder) if config.predictions else None
    if found is None:
        return
    shown = {MATRIX: matrix(found), WORST: worst(found, config.predictions)}
    with copies_in(folder):
        run.log({key: value for key, value in shown.items() if value is not None}, step=step)


def matrix(found: Predictions) -> Any:
    """The confusion matrix as W&B's chart, or None for more classes than one can look at.

    Args:
        found: of the run.
    """
    import wandb

    if len(found.names) > MOST_CLASSES:
        return None
    return wandb.plot.confusion_matrix(
        y_true=found.target.tolist(),
        preds=found.predicted.tolist(),
        class_names=found.names,
        title="confusion matrix, test set",
    )


def worst(found: Predictions, most: int) -> Any:
    """The samples of the largest losses as W&B's table, the worst first.

    Args:
        found: of the run.
        most: rows.
    """
    import wandb

    chosen, names = found.worst[:most], np.array(found.names)
    columns = {
        "sample": chosen.tolist(),
        "target": names[found.target[chosen]].tolist(),
        "predicted": names[found.predicted[chosen]].tolist(),
        "loss": found.loss[chosen].tolist(),
        "confidence": found.confidence[chosen].tolist(),
    }
    if found.worst_images is not None:
        images = pictures(found.worst_images[:most])
        columns = {"image": [wandb.Image(image) for image in images]} | columns
    rows = zip(*columns.values(), strict=True)
    return wandb.Table(columns=list(columns), data=[list(row) for row in rows])


def pictures(images: np.ndarray) -> np.ndarray:
    """Images in the channels that W&B can show: grey or three.

    Args:
        images: uint8 [k, height, width, channels].
    """
    return images[..., : 3 if images.shape[-1] >= 3 else 1]
