"""Generated sequences and the same backwards, or again, for sequence-to-sequence models."""

import numpy as np

from pipeline.config.datasets import ReverseConfig
from pipeline.data.dataset import Data, Split
from pipeline.data.splits import make_splits
from pipeline.data.stratified_order import KEY
from pipeline.tasks import Seq2Seq, Task

# One Philox stream each, so a larger training set begins with the smaller one.
TRAIN, VAL, TEST = (KEY + stream for stream in range(3))


def load(config: ReverseConfig, task: Task | None = None) -> Data:
    """Sequences `source` of 1 to `config.length` random tokens, and `target`: uint8 [n, length] each.

    A target has the tokens of its source in the reverse order, or without `config.reversed` in the same.
    Both end in padding, 0; tokens are 1 up to the vocabulary. Validation and test have `config.samples / 4`
    sequences each, at least one; `val_fraction` is ignored.
    """
    quarter = max(1, config.samples // 4)
    given = {"train": draw(TRAIN, config.samples, config)}
    given |= {name: draw(key, quarter, config) for name, key in (("val", VAL), ("test", TEST))}
    train, val, test, _ = make_splits(given, config)
    sizes = dict.fromkeys(("source", "target"), config.vocabulary)
    return Data("reverse", Seq2Seq(), train, val, test, sizes, {})


def draw(key: int, n: int, config: ReverseConfig) -> Split:
    """Draw `n` sequences from the stream `key`."""
    # NumPy guarantees the raw stream of Philox, but not the methods of Generator.
    words = np.random.Philox(key=key).random_raw(n * (config.length + 1)).reshape(n, -1)
    places = np.arange(config.length)
    lengths = words[:, :1] % config.length + 1
    source = np.where(places < lengths, words[:, 1:] % (config.vocabulary - 1) + 1, 0)
    mirrored = (lengths.astype(np.int64) - 1 - places).clip(0) if config.reversed else places[None]
    target = np.where(places < lengths, np.take_along_axis(source, mirrored, axis=1), 0)
    return Split({"source": source.astype(np.uint8), "target": target.astype(np.uint8)})
