"""Made-up images of any size: for tests and benchmarks, without a download."""

import math

import numpy as np

from pipeline.config import SyntheticConfig
from pipeline.datasets.data import Data, Split, Task
from pipeline.datasets.moments import moments
from pipeline.datasets.strata import KEY, limited

# One Philox stream each, so that a larger training set begins with the smaller one.
PATTERNS, TRAIN, VAL, TEST = (KEY + stream for stream in range(4))


def load(config: SyntheticConfig) -> Data:
    """Images of `config.classes` patterns under noise: uint8 [n, *config.shape].

    An image is the mean of the pattern of its class and of noise, both uniform in 0..255: all
    pixels together give the class away, a single one does not. The classes take turns, so that
    every part of the set holds all of them. Validation and test are a quarter of `config.samples`
    each, at least one image; `val_fraction` is not used.

    Raises:
        UserError: `dataset.limit` is above `dataset.samples`.
    """
    patterns = noise(PATTERNS, (config.classes, *config.shape))
    quarter = max(1, config.samples // 4)
    training = draw(TRAIN, config.samples, patterns)
    val, test = draw(VAL, quarter, patterns), draw(TEST, quarter, patterns)

    mean, std = moments(training.inputs)
    train = limited(training, config)
    return Data("synthetic", Task.classification, train, val, test, config.classes, mean, std)


def draw(key: int, n: int, patterns: np.ndarray) -> Split:
    """`n` images with their classes, the noise keyed by `key`."""
    targets = np.arange(n, dtype=np.int64) % len(patterns)
    images = noise(key, (n, *patterns.shape[1:]))
    images >>= 1  # in place, as is the sum: a benchmark may ask for gigabytes
    images += (patterns >> 1)[targets]
    return Split(images, targets)


def noise(key: int, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform bytes of the given shape, from the raw stream of a Philox generator."""
    size = math.prod(shape)
    words = np.random.Philox(key=key).random_raw(-(-size // 8))
    return words.astype("<u8", copy=False).view(np.uint8)[:size].reshape(shape)
