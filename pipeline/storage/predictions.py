"""`predictions.npz`: a classifier's prediction for each sample of the test set; arrays without pickle."""

from dataclasses import dataclass, fields
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from pipeline.atomic_files import replacing
from pipeline.data.dataset import Field, Form, form_of
from pipeline.data.image_grid import to_displayable_uint8
from pipeline.storage.run_folder import PREDICTIONS

WORST = 16  # samples with the largest loss that are kept
COLUMNS = ("predicted", "loss", "confidence")  # of the array of values per sample


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
    rows: np.ndarray,
    classes: tuple[str, ...] | None = None,
) -> Predictions:
    """Make the predictions for samples and their classes; `rows` are `COLUMNS` of each sample [n, 3]."""
    predicted, loss, confidence = np.ascontiguousarray(rows.T)
    worst = highest_loss(loss)
    images = None
    if form_of(samples) is Form.images:
        shown = samples[worst]
        shown = shown if shown.shape[-1] in (1, 3) else shown[..., :1]  # as pictures can have
        images = to_displayable_uint8(shown, samples.max())
    target = np.asarray(targets, np.int64)
    names = None if classes is None else np.array(classes)
    return Predictions(target, predicted.astype(np.int64), loss, confidence, worst, images, names)


def highest_loss(loss: np.ndarray) -> np.ndarray:
    """Return the positions of the `WORST` largest losses, largest first: int64 [k].

    NaN comes first; of equal losses the lower position.
    """
    is_nan = np.isnan(loss)
    return np.lexsort((-np.where(is_nan, 0, loss), ~is_nan))[:WORST]
