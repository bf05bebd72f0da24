"""The data sets: `load` gives any of them as plain NumPy arrays, whatever library decoded them.

To add one: a module with `load(config) -> Data`, a row in `LOADERS` (and in `TASKS`, if it is not
classified), a dataclass in `pipeline/config/datasets.py` and a YAML file in `conf/dataset/`.
"""

from collections.abc import Callable

from pipeline.config import DatasetConfig
from pipeline.datasets import digits, images, line, synthetic, text
from pipeline.datasets.data import Data, Form, Split, Task
from pipeline.datasets.strata import stratified_split
from pipeline.errors import UserError

__all__ = ["LOADERS", "Data", "Form", "Split", "Task", "load", "stratified_split", "task"]

LOADERS: dict[str, Callable[..., Data]] = {
    "digits": digits.load,
    "line": line.load,
    "synthetic": synthetic.load,
    "text": text.load,
    **{name: images.load for name in images.CLASSES},
}

TASKS = {"line": Task.regression, "text": Task.language}


def task(config: DatasetConfig) -> Task:
    """What is learned from a data set, known before it is loaded."""
    return TASKS.get(config.name, Task.classification)


def load(config: DatasetConfig) -> Data:
    """The data set that `config.name` names.

    The splits are the same for ever: they depend on the data and on `config`, never on the seed
    of the run.

    Raises:
        UserError: the name is unknown, the data is missing or damaged, `dataset.root` cannot be
            used, or `dataset.limit` or `dataset.val_fraction` asks for more than there is.
    """
    if config.name not in LOADERS:
        raise UserError("dataset.name", config.name, "one of " + ", ".join(sorted(LOADERS)))
    return LOADERS[config.name](config)
