"""The 1797 handwritten digits that come with scikit-learn: real images without a download.

A copy of the test set of the UCI "Optical Recognition of Handwritten Digits", 8×8 pixels.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from pipeline.config import DatasetConfig
from pipeline.datasets.data import Data, Split, Task
from pipeline.datasets.moments import moments
from pipeline.datasets.strata import divide, stratified_order, stratified_split

TEST_FRACTION = 0.2


def load(config: DatasetConfig) -> Data:
    """Digits: uint8 [n, 8, 8, 1] with values 0..16, classes 0..9, a fixed fifth for testing.

    Raises:
        UserError: `dataset.limit` or `dataset.val_fraction` asks for more than there is.
    """
    images, targets = np.split(table(), [-1], axis=1)
    everything = Split(images.reshape(-1, 8, 8, 1).astype(np.uint8), targets.ravel())

    training, test = (
        Split(everything.inputs[indices], everything.targets[indices])
        for indices in stratified_split(everything.targets, TEST_FRACTION)
    )
    order = stratified_order(training.targets)
    train, val = divide(Split(training.inputs[order], training.targets[order]), config)
    mean, std = moments(training.inputs)
    return Data("digits", Task.classification, train, val, test, 10, mean, std, tuple("0123456789"))


def table() -> np.ndarray:
    """The file itself, int64 [n, 64 + 1]: pixels and class. Importing scikit-learn takes a second."""
    package = Path(find_spec("sklearn").origin).parent
    return np.loadtxt(package / "datasets/data/digits.csv.gz", dtype=np.int64, delimiter=",")
