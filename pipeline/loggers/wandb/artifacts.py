"""Records of a completed run in W&B: config and best checkpoint as artifacts, predictions as charts.

Checkpoints are not copied: an offline file refers to the path, and `wandb sync` uploads from there.
Small files, which a later command may replace, are copied next to the run's W&B files. A sync then
needs only the run's folder, which may be moved.
"""

import os
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config.loggers import WandbConfig
from pipeline.console import say_line
from pipeline.storage.predictions import Predictions, read_predictions
from pipeline.storage.run_identity import IDENTITY

if TYPE_CHECKING:
    import wandb

MATRIX = "test/confusion_matrix"
WORST = "test/worst"
MOST_CLASSES = 100  # W&B limits tables to 10,000 rows
COPIES = "WANDB_DATA_DIR"  # folder of W&B's copies of small files; by default in the home folder


def log_artifacts(
    config: WandbConfig, folder: Path, run: "wandb.Run", step: int, summary: Mapping[str, object]
) -> None:
    """Log the artifacts that `logger.wandb.artifacts` lists.

    The artifact of the best checkpoint (`best.checkpoint` in the summary) includes `run.json`, so that a
    downloaded copy can be tested or resumed.
    """
    composed = folder / ".hydra" / "config.yaml"
    if "config" in config.artifacts and composed.is_file():
        log_files(run, folder, "config", [composed])
    best = summary.get("best.checkpoint")
    if "checkpoint" not in config.artifacts or best is None:
        return
    checkpoint = Path(str(best))
    if checkpoint.is_file():  # of torch
        files = [checkpoint]
    else:
        files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    size = sum(file.stat().st_size for file in files) / 2**20
    if size > config.checkpoint_mb:
        limit = f"logger.wandb.checkpoint_mb={config.checkpoint_mb}"
        say_line(f"W&B does not get the best checkpoint: its {size:,.0f} MB are above {limit}")
        return
    about = {key: summary.get(key) for key in ("best.metric", "best.value", "best.step")}
    log_files(run, folder, "model", [folder / IDENTITY], files, about)


def log_files(
    run: "wandb.Run",
    folder: Path,
    kind: str,
    small: Sequence[Path],
    large: Sequence[Path] = (),
    about: Mapping[str, object] | None = None,
) -> None:
    """Log files as an artifact of a W&B run.

    `small` files are copied, and stored in the artifact by their names. `large` files are not copied and
    must exist until they are uploaded; the artifact keeps their paths within the folder of their run.
    `about` is the artifact's metadata.
    """
    import wandb

    artifact = wandb.Artifact(f"{kind}-{run.id}", type=kind, metadata=dict(about or {}))
    with copy_into(folder):
        for file in small:
            artifact.add_file(str(file.resolve()), name=file.name)
        for file in large:
            its_run = next(above for above in file.parents if (above / IDENTITY).is_file())
            place = file.relative_to(its_run).as_posix()
            artifact.add_file(str(file.resolve()), name=place, policy="immutable", skip_cache=True)
        run.log_artifact(artifact, aliases=["best"])  # W&B adds `latest`


@contextmanager
def copy_into(folder: Path) -> Generator[None]:
    """Let W&B copy small files into `folder/wandb`, unless the user has set another folder."""
    if COPIES in os.environ:
        yield
        return
    os.environ[COPIES] = str((folder / "wandb").resolve())
    try:
        yield
    finally:
        del os.environ[COPIES]


def log_predictions(
    config: WandbConfig, folder: Path, run: "wandb.Run", step: int, summary: Mapping[str, object]
) -> None:
    """Log the worst test samples and the confusion matrix, if there are any predictions, at the last `step`.

    `config.predictions` is the number of samples to show; 0 logs nothing.
    """
    found = read_predictions(folder) if config.predictions else None
    if found is None:
        return
    import wandb

    shown: dict[str, object] = {WORST: worst(found, config.predictions)}
    if len(found.names) <= MOST_CLASSES:
        # W&B draws it from one row per pair of classes, for any number of samples.
        shown[MATRIX] = wandb.plot.confusion_matrix(
            y_true=found.target.tolist(),
            preds=found.predicted.tolist(),
            class_names=found.names,
            title="confusion matrix, test set",
        )
    with copy_into(folder):
        run.log(shown, step=step)


def worst(found: Predictions, most: int) -> "wandb.Table":
    """Return the `most` samples with the largest losses as W&B's table, the worst first."""
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
    rows: list[Iterable[object]] = [*zip(*columns.values(), strict=True)]
    return wandb.Table(columns=list(columns), data=rows)


def pictures(images: np.ndarray) -> np.ndarray:
    """Reduce images, uint8 [k, height, width, channels], to the one or three channels that W&B can show."""
    return images[..., : 3 if images.shape[-1] >= 3 else 1]
