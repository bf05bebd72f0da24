"""Scenes of handwritten digits: images with a class for each pixel, and with any number of classes."""

import numpy as np

from pipeline.config.datasets import DigitsConfig, ScenesConfig
from pipeline.data.dataset import Data, Split
from pipeline.data.sources import digits
from pipeline.data.sources.channel_stats import channel_moments
from pipeline.data.splits import make_splits
from pipeline.data.stratified_order import KEY
from pipeline.tasks import Segmentation, Task

SIDE = 8  # pixels of a digit
INK = 4  # darkest is 16; a paler pixel of a digit is background in the mask
# One Philox stream each, so a larger training set begins with the smaller one.
TRAIN, VAL, TEST = (KEY + stream for stream in range(3))


def load(config: ScenesConfig, task: Task | None = None) -> Data:
    """One to `config.most` digits, each in a cell of its own, some pixels off its middle.

    - `image`: uint8 [n, size, size, 1] with values 0..16
    - `mask`: uint8 [n, size, size], 0 for the background and digit + 1
    - `labels`: uint8 [n, 10], 1 for each digit that is there

    Training scenes are of the training digits, validation and test scenes of held-out ones, and a quarter
    as many each; `val_fraction` is ignored.
    """
    source, quarter = digits.load(DigitsConfig()), max(1, config.samples // 4)
    given = {
        "train": draw(TRAIN, config.samples, config, source.train),
        "val": draw(VAL, quarter, config, source.val),
        "test": draw(TEST, quarter, config, source.test),
    }
    train, val, test, training = make_splits(given, config)
    moments = {"image": channel_moments(training.arrays["image"])}
    classes = ("background", *map(str, range(10)))
    sizes = {"mask": len(classes), "labels": 2}
    return Data("scenes", Segmentation(), train, val, test, sizes, moments, classes)


def draw(key: int, n: int, config: ScenesConfig, source: Split) -> Split:
    """Draw `n` scenes from the stream `key`."""
    cells = (config.size // config.cell) ** 2
    # NumPy guarantees the raw stream of Philox, but not the methods of Generator.
    words = np.random.Philox(key=key).random_raw(n * (1 + 4 * cells)).reshape(n, -1)
    count = 1 + words[:, 0] % min(config.most, cells)
    order, chosen, rows, columns = words[:, 1:].reshape(n, 4, cells).transpose(1, 0, 2)
    ranks = order.argsort(axis=1).argsort(axis=1)
    pixels, classes = source.arrays["image"][..., 0], source.arrays["label"]

    shape = (n, config.size, config.size)
    image, mask = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    labels, room = np.zeros((n, 10), np.uint8), config.cell - SIDE + 1
    for scene, cell in np.argwhere(ranks < count[:, None]):
        digit = int(chosen[scene, cell] % len(source))
        row, column = (
            config.cell * place for place in divmod(int(cell), config.size // config.cell)
        )
        row += int(rows[scene, cell] % room)
        column += int(columns[scene, cell] % room)
        place = np.s_[scene, row : row + SIDE, column : column + SIDE]
        image[place] = pixels[digit]
        mask[place] = np.where(pixels[digit] >= INK, classes[digit] + 1, 0)
        labels[scene, classes[digit]] = 1
    return Split({"image": image[..., None], "mask": mask, "labels": labels})
