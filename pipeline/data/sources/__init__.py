"""The data sets as plain NumPy arrays, independent of the library that decoded them.

To add one, write a module with `load(config) -> Data`, a row in `LOADERS` (and in `OTHER_TASKS`, if it is
no classification), a dataclass in `pipeline/config/datasets.py`, and a YAML file in `conf/dataset/`.
"""

from collections.abc import Callable

from pipeline.config.datasets import DatasetConfig
from pipeline.data.dataset import Data
from pipeline.data.sources import digits, folder, images, line, reverse, synthetic, text
from pipeline.errors import UserError
from pipeline.tasks import Classification, Language, Regression, Seq2Seq, Task

LOADERS: dict[str, Callable[..., Data]] = {
    "digits": digits.load,
    "folder": folder.load,
    "line": line.load,
    "synthetic": synthetic.load,
    "text": text.load,
    "reverse": reverse.load,
    **{name: images.load for name in images.CLASSES},
}

OTHER_TASKS: dict[str, Task] = {"line": Regression(), "text": Language(), "reverse": Seq2Seq()}


def task(config: DatasetConfig) -> Task:
    """Return the task of a data set without loading it."""
    return OTHER_TASKS.get(config.name, Classification())


def load(config: DatasetConfig) -> Data:
    """Load the data set `config.name`.

    The splits depend on the data and on `config`, never on the seed of the run.

    Raises:
        UserError: the name is unknown, the data is missing or damaged, a download failed,
            `dataset.root` cannot be used, or a limit or fraction asks for more than there is.
    """
    if config.name not in LOADERS:
        raise UserError("dataset.name", config.name, "one of " + ", ".join(sorted(LOADERS)))
    return LOADERS[config.name](config)
