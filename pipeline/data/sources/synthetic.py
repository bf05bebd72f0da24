"""Generated images of any size, for tests and benchmarks."""

import math

import numpy as np

from pipeline.config.datasets import SyntheticConfig
from pipeline.data.dataset import Data, Split
from pipeline.data.sources.channel_stats import channel_moments
from pipeline.data.splits import make_splits
from pipeline.data.stratified_order import KEY
from pipeline.tasks import Classification, Task

# One Philox stream each, so a larger training set begins with the smaller one.
PATTERNS, TRAIN, VAL, TEST = (KEY + stream for stream in range(4))


def load(config: SyntheticConfig, task: Task | None = None) -> Data:
    """Noisy images of `config.classes` patterns: uint8 [n, *config.shape].

    An image is the mean of its class's pattern and of noise, both uniform in 0..255. The classes
    alternate, so every part of the set holds all of them. Validation and test have
    `config.samples / 4` images each, at least one; `val_fraction` is ignored.
    """
    patterns = noise(PATTERNS, (config.classes, *config.shape))
    quarter = max(1, config.samples // 4)
    given = {"train": draw(TRAIN, config.samples, patterns)}
    given |= {name: draw(key, quarter, patterns) for name, key in (("val", VAL), ("test", TEST))}

    train, val, test, training = make_splits(given, config)
    moments = {"image": channel_moments(training.arrays["image"])}
    return Data("synthetic", Classification(), train, val, test, {"label": config.classes}, moments)


def draw(key: int, n: int, patterns: np.ndarray) -> Split:
    """Draw `n` images with noise from the stream `key`."""
    targets = np.arange(n, dtype=np.int64) % len(patterns)
    images = noise(key, (n, *patterns.shape[1:]))
    images >>= 1  # in place, as the sum: a benchmark may use gigabytes
    images += (patterns >> 1)[targets]
    return Split({"image": images, "label": targets})


def noise(key: int, shape: tuple[int, ...]) -> np.ndarray:
    """Uniform bytes from the raw stream of a Philox generator: uint8 [*shape]."""
    size = math.prod(shape)
    words = np.random.Philox(key=key).random_raw(-(-size // 8))
    return words.astype("<u8", copy=False).view(np.uint8)[:size].reshape(shape)
