"""Five points on a line: the smallest regression, to see a whole run through by hand."""

import numpy as np

from pipeline.config import DatasetConfig
from pipeline.datasets.data import Data, Split, Task
from pipeline.datasets.strata import limited


def load(config: DatasetConfig) -> Data:
    """x = 1..5 and y = x - 1, float64 [5, 1] each; all three splits are these five points.

    Raises:
        UserError: `dataset.limit` is above 5.
    """
    points = Split(np.arange(1.0, 6.0)[:, None], np.arange(0.0, 5.0)[:, None])
    train = limited(points, config)
    return Data("line", Task.regression, train, points, points, 1, np.zeros(1), np.ones(1))
