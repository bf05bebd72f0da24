"""Five points on a line: a regression small enough to check by hand."""

import numpy as np

from pipeline.config.datasets import DatasetConfig
from pipeline.data.dataset import Data, Split
from pipeline.data.splits import make_splits
from pipeline.tasks import Regression, Task


def load(config: DatasetConfig, task: Task | None = None) -> Data:
    """features = 1..5 and target = features - 1, float64 [5, 1] each; each split holds all five points."""
    points = Split(
        {"features": np.arange(1.0, 6.0)[:, None], "target": np.arange(0.0, 5.0)[:, None]}
    )
    train, val, test, _ = make_splits({"train": points, "val": points, "test": points}, config)
    return Data("line", Regression(), train, val, test, {}, {})
