"""`predictions.npz`: what is kept of each sample of the test set; arrays without pickle.

Of a classification these are `Predictions`; of other tasks arrays by name: `outputs`, or `outputs/NAME` of a
user's own structure, or `predicted`, the likeliest classes or tokens.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from math import prod
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from pipeline.atomic_files import replacing
from pipeline.data.dataset import Field, Form, form_of
from pipeline.data.image_grid import to_displayable_uint8
from pipeline.storage.run_folder import PREDICTIONS

WORST = 16  # samples with the largest loss that are kept
MOST = 2**24  # numbers that are kept of a test set


Outputs = Mapping[str, np.ndarray]  # of each sample of a test set, by name


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions for a test set, in the order of its samples."""

    target: np.ndarray  # int64 [n], the true class
    predicted: np.ndarray  # int64 [n], the likeliest class
    loss: np.ndarray  # float64 [n], the cross-entropy in nats, without label smoothing
    confidence: np.ndarray  # float64 [n], the probability of the predicted class
    worst: np.ndarray  # int64 [k], positions of the samples with the largest loss, the worst first
    # uint8 [k, height, width, channels], those samples; None if samples are not images.
    worst_images: np.ndarray | None = None
    classes: np.ndarray | None = None  # str [classes], their names; None if unknown

    @property
    def names(self) -> list[str]:
        """Return the names of the classes up to the last that occurs; their numbers if names are unknown."""
        occurring = 1 + int(max(self.target.max(), self.predicted.max()))
        known = range(occurring) if self.classes is None else self.classes[:occurring]
        return list(map(str, known))

    def confusion(self, classes: int) -> np.ndarray:
        """Return the confusion matrix: samples, int64 [classes (true), classes (predicted)]."""
        cells = np.bincount(self.target * classes + self.predicted, minlength=classes**2)
        return cells.reshape(classes, classes)

    def write(self, folder: Path) -> None:
        """Replace the file in a run's folder."""
        arrays = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        known = {name: array for name, array in arrays.items() if array is not None}
        with replacing(folder / PREDICTIONS) as aside, aside.open("wb") as file:
            np.savez(file, **known)


def read_predictions(folder: Path) -> Predictions | None:
    """Read the predictions in a run's folder; None if they are missing or torn."""
    try:
        with np.load(folder / PREDICTIONS, allow_pickle=False) as file:
            return Predictions(**{name: file[name] for name in file.files})
    except (OSError, EOFError, ValueError, TypeError, BadZipFile):
        return None  # TypeError: the arrays have other names


def predictions_of(
    samples: Field,
    targets: np.ndarray,
    found: Outputs,
    classes: tuple[str, ...] | None = None,
) -> Predictions:
    """Make the predictions for samples and their classes.

    `found` are `predicted`, `loss` and `confidence` of each sample: float64 [n].
    """
    predicted, loss, confidence = (found[name] for name in ("predicted", "loss", "confidence"))
    worst = highest_loss(loss)
    images = None
    if form_of(samples) is Form.images:
        shown = samples[worst]
        shown = shown if shown.shape[-1] in (1, 3) else shown[..., :1]  # as pictures can have
        images = to_displayable_uint8(shown, samples.max())
    target = np.asarray(targets, np.int64)
    names = None if classes is None else np.array(classes)
    return Predictions(target, predicted.astype(np.int64), loss, confidence, worst, images, names)


def write_outputs(folder: Path, found: Outputs) -> None:
    """Write what is kept of another task's samples, float64 [n, …], in the smallest types that hold it."""
    arrays: dict[str, Any] = {name: _small(name, array) for name, array in found.items()}
    with replacing(folder / PREDICTIONS) as aside, aside.open("wb") as file:
        np.savez(file, **arrays)


def read_outputs(folder: Path) -> dict[str, np.ndarray] | None:
    """Read what `write_outputs` wrote; None if it is missing or torn."""
    try:
        with np.load(folder / PREDICTIONS, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, EOFError, ValueError, BadZipFile):
        return None


def are_kept(shapes: Iterable[tuple[int, ...]], samples: int) -> bool:
    """Tell whether so many samples of such shapes are few enough to be kept."""
    return samples * sum(map(prod, shapes)) <= MOST


def name_of(path: Sequence[object]) -> str:
    """Return the name of an output from its path in a pytree of torch or JAX: `outputs/mean/0`."""
    parts = [
        next(str(getattr(part, kind)) for kind in ("key", "idx", "name") if hasattr(part, kind))
        for part in path
    ]
    return "/".join(["outputs", *parts])


def _small(name: str, array: np.ndarray) -> np.ndarray:
    if name == "predicted":
        return array.astype(np.min_scalar_type(int(array.max(initial=0))))
    single = array.astype(np.float32)
    return single if np.array_equal(single, array, equal_nan=True) else array


def highest_loss(loss: np.ndarray) -> np.ndarray:
    """Return the positions of the `WORST` largest losses, largest first: int64 [k].

    NaN comes first; of equal losses the lower position.
    """
    is_nan = np.isnan(loss)
    return np.lexsort((-np.where(is_nan, 0, loss), ~is_nan))[:WORST]
