"""The data sets as plain NumPy arrays, independent of the library that decoded them.

To add one, write a module with `load(config) -> Data`, a row in `LOADERS` (and in `OTHER_TASKS`, if it is
no classification), a dataclass in `pipeline/config/datasets.py`, and a YAML file in `conf/dataset/`.
"""

from collections.abc import Callable

from pipeline.config.datasets import DatasetConfig
from pipeline.config.tasks import TaskConfig
from pipeline.data.dataset import Data
from pipeline.data.sources import digits, folder, images, line, reverse, scenes, synthetic, text
from pipeline.errors import UserError
from pipeline.tasks import Task, make_task

LOADERS: dict[str, Callable[..., Data]] = {
    "digits": digits.load,
    "folder": folder.load,
    "line": line.load,
    "synthetic": synthetic.load,
    "text": text.load,
    "reverse": reverse.load,
    "scenes": scenes.load,
    **{name: images.load for name in images.CLASSES},
}

OTHER_TASKS = {  # all others: classification
    "line": "regression",
    "text": "language",
    "reverse": "seq2seq",
    "scenes": "segmentation",
}


def task_of(dataset: DatasetConfig, task: TaskConfig) -> Task:
    """Return the task of an experiment without loading its data."""
    return make_task(task, OTHER_TASKS.get(dataset.name, "classification"))


def load(dataset: DatasetConfig, task: TaskConfig | None = None) -> Data:
    """Load the data set `dataset.name`, with the fields that a task needs; None is the data set's own task.

    The splits depend on the data and on `dataset`, never on the seed of the run.

    Raises:
        UserError: the name is unknown, the data is missing or damaged, a download failed,
            `dataset.root` cannot be used, a limit or fraction asks for more than there is, or the
            task needs a field that the data set has not.
    """
    if dataset.name not in LOADERS:
        raise UserError("dataset.name", dataset.name, "one of " + ", ".join(sorted(LOADERS)))
    data = LOADERS[dataset.name](dataset)
    return data.for_task(make_task(task or TaskConfig(), data.task.name))
