"""What the model said of each sample of the test set: `predictions.npz` in the folder of a run.

Of a classification only: plain arrays, no pickle, so that anybody's NumPy reads them.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from pipeline.datasets import Form, Split
from pipeline.pictures import for_the_eye
from pipeline.runs import replacing

FILE = "predictions.npz"

WORST = 16  # samples with the largest loss that are told apart

# What a backend tells of each sample of a classification, as the columns of an array.
COLUMNS = ("predicted", "loss", "confidence")


@dataclass(frozen=True, eq=False)
class Predictions:
    """A test set as a model sees it, in the order of its samples.

    Attributes:
        target: int64 [n], the true class.
        predicted: int64 [n], the class that the model holds for the likeliest.
        loss: float64 [n], the cross-entropy in nats, without label smoothing.
        confidence: float64 [n], the probability that the model gives the predicted class.
        worst: int64 [k], positions of the samples with the largest loss, the worst first.
        worst_images: uint8 [k, height, width, channels], those samples with pixels in 0..255; None
            where samples are no images.
        classes: str [classes], what people call them; None where nobody knows, or in a file of
            before they were kept.
    """

    target: np.ndarray
    predicted: np.ndarray
    loss: np.ndarray
    confidence: np.ndarray
    worst: np.ndarray
    worst_images: np.ndarray | None = None
    classes: np.ndarray | None = None

    @property
    def names(self) -> list[str]:
        """What the classes are called, up to the last that occurs: by their numbers, if need be."""
        occurring = 1 + int(max(self.target.max(), self.predicted.max()))
        known = range(occurring) if self.classes is None else self.classes[:occurring]
        return list(map(str, known))

    def confusion(self, classes: int) -> np.ndarray:
        """How many samples of each class were taken for which: int64 [classes (true), classes
        (predicted)].
        """
        cells = np.bincount(self.target * classes + self.predicted, minlength=classes**2)
        return cells.reshape(classes, classes)

    def write(self, folder: Path) -> None:
        """Replace the file in a run's folder whole."""
        arrays = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        known = {name: array for name, array in arrays.items() if array is not None}
        with replacing(folder / FILE) as aside, aside.open("wb") as file:
            np.savez(file, **known)


def read_predictions(folder: Path) -> Predictions | None:
    """What is in a run's folder, or None where there is none or it is torn."""
    try:
        with np.load(folder / FILE, allow_pickle=False) as file:
            return Predictions(**{name: file[name] for name in file.files})
    except (OSError, EOFError, ValueError, TypeError, BadZipFile):
        return None  # a TypeError: of other arrays than ours


def predictions_of(
    split: Split, said: np.ndarray, classes: tuple[str, ...] | None = None
) -> Predictions:
    """What a backend tells of a split, with the samples that it found hardest.

    Args:
        split: of a classification.
        said: float64 [n, 3], `COLUMNS` of each sample.
        classes: what they are called, if the data set knows it.
    """
    predicted, loss, confidence = np.ascontiguousarray(said.T)
    worst = hardest(loss)
    images = None
    if split.form is Form.images:
        images = for_the_eye(split.inputs[worst], int(split.inputs.max()))
    target = np.asarray(split.targets, np.int64)
    names = None if classes is None else np.array(classes)
    return Predictions(target, predicted.astype(np.int64), loss, confidence, worst, images, names)


def hardest(loss: np.ndarray) -> np.ndarray:
    """Positions of the `WORST` largest losses, largest first: int64 [k].

    One that is no number comes before all others, of equal ones the lower position.
    """
    broken = np.isnan(loss)
    return np.lexsort((-np.where(broken, 0, loss), ~broken))[:WORST]
