"""The 1797 handwritten digits of scikit-learn: real images without a download.

A copy of the test set of the UCI "Optical Recognition of Handwritten Digits", 8×8 pixels.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from pipeline.config.datasets import DigitsConfig
from pipeline.data.dataset import Data, Split
from pipeline.data.sources.channel_stats import channel_moments
from pipeline.data.splits import make_splits
from pipeline.tasks import Classification, Task


def load(config: DigitsConfig, task: Task | None = None) -> Data:
    """Digits: uint8 [n, 8, 8, 1] with values 0..16, classes 0..9."""
    # The file is read here, since importing scikit-learn takes a second.
    package = Path(find_spec("sklearn").origin).parent  # pyrefly: ignore[missing-attribute]
    file = package / "datasets/data/digits.csv.gz"  # rows of 64 pixels and a class
    pixels, labels = np.split(np.loadtxt(file, dtype=np.int64, delimiter=","), [-1], axis=1)
    fields = {"image": pixels.reshape(-1, 8, 8, 1).astype(np.uint8), "label": labels.ravel()}

    train, val, test, training = make_splits(
        {"train": Split(fields)}, config, test_fraction=config.test_fraction, labels=fields["label"]
    )
    moments = {"image": channel_moments(training.arrays["image"])}
    classes = tuple("0123456789")
    return Data("digits", Classification(), train, val, test, {"label": 10}, moments, classes)
