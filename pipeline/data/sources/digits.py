"""The 1797 handwritten digits of scikit-learn: real images without a download.

A copy of the test set of the UCI "Optical Recognition of Handwritten Digits", 8×8 pixels.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from pipeline.config.datasets import DatasetConfig
from pipeline.data.dataset import Data, Split
from pipeline.data.sources.channel_stats import channel_moments
from pipeline.data.sources.stratified_split import (
    split_train_val,
    stratified_order,
    stratified_split,
)
from pipeline.tasks import Classification

TEST_FRACTION = 0.2


def load(config: DatasetConfig) -> Data:
    """Digits: uint8 [n, 8, 8, 1] with values 0..16, classes 0..9, a fixed fifth for testing."""
    # The file is read here, since importing scikit-learn takes a second.
    package = Path(find_spec("sklearn").origin).parent  # pyrefly: ignore[missing-attribute]
    file = package / "datasets/data/digits.csv.gz"  # rows of 64 pixels and a class
    pixels, labels = np.split(np.loadtxt(file, dtype=np.int64, delimiter=","), [-1], axis=1)
    fields = {"image": pixels.reshape(-1, 8, 8, 1).astype(np.uint8), "label": labels.ravel()}

    kept, held_out = stratified_split(fields["label"], TEST_FRACTION)
    kept = kept[stratified_order(fields["label"][kept])]
    training, test = (
        Split({name: array[part] for name, array in fields.items()}) for part in (kept, held_out)
    )
    train, val = split_train_val(training, config)
    moments = {"image": channel_moments(training.fields["image"])}
    classes = tuple("0123456789")
    return Data("digits", Classification(), train, val, test, 10, moments, classes)
