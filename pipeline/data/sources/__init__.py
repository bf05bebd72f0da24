"""The data sets as plain NumPy arrays, independent of the library that decoded them.

To add one, write a module with `load(config, task) -> Data`, a row in `LOADERS` (and in `OTHER_TASKS`, if
it is no classification), a dataclass in `pipeline/config/datasets.py`, and a YAML file in `conf/dataset/`.
`task` is None if the data set's own is meant; a loader that has one kind of fields ignores it.
"""

from collections.abc import Callable

from pipeline.config.column_datasets import LibraryConfig
from pipeline.config.datasets import DatasetConfig
from pipeline.config.tasks import AUTO, TaskConfig
from pipeline.data.dataset import Data
from pipeline.data.sources import (
    arrays,
    digits,
    folder,
    huggingface,
    images,
    library,
    line,
    own,
    reverse,
    scenes,
    synthetic,
    table,
    text,
    tokens,
)
from pipeline.data.sources.arrays.named_arrays import UNKNOWN
from pipeline.errors import UserError
from pipeline.tasks import Task, make_task

LOADERS: dict[str, Callable[..., Data]] = {
    "arrays": arrays.load,
    "digits": digits.load,
    "folder": folder.load,
    "huggingface": huggingface.load,
    "library": library.load,
    "line": line.load,
    "own": own.load,
    "reverse": reverse.load,
    "scenes": scenes.load,
    "synthetic": synthetic.load,
    "table": table.load,
    "text": text.load,
    "tokens": tokens.load,
    **{name: images.load for name in images.CLASSES},
}

# Of each data set that is not for classification its task, or a function that tells it; None: unknown.
OTHER_TASKS: dict[str, str | Callable[..., str | None]] = {
    "arrays": arrays.task_of,
    "folder": folder.task_of,
    "huggingface": huggingface.task_of,
    "library": library.task_of,
    "line": "regression",
    "own": own.task_of,
    "reverse": "seq2seq",
    "scenes": "segmentation",
    "table": table.task_of,
    "text": "language",
    "tokens": "language",
}


def task_of(dataset: DatasetConfig, task: TaskConfig) -> Task:
    """Return the task of an experiment before its data is loaded; a user's function is called for that."""
    known = OTHER_TASKS.get(kind_of(dataset), "classification")
    if task.name != AUTO or isinstance(known, str):
        return make_task(task, str(known))
    return chosen(task, known(dataset), dataset.name)


def kind_of(dataset: DatasetConfig) -> str:
    """Return the key of a data set in `LOADERS`: its name, unless that is one of a library."""
    return "library" if isinstance(dataset, LibraryConfig) else dataset.name


def chosen(task: TaskConfig, default: str | None, name: str) -> Task:
    """Return the task that is chosen, or else that of the data set `name`; refuse none."""
    if task.name == AUTO and default is None:
        problem = f"no name of the fields of dataset={name} tells what is learned"
        hint = "Set task=NAME, or name them label, labels, target, mask, or tokens and next."
        raise UserError("task", AUTO, problem=problem, hint=hint)
    return make_task(task, default or task.name)


def load(dataset: DatasetConfig, task: TaskConfig | None = None) -> Data:
    """Load the data set `dataset.name`, with the fields that a task needs; None is the data set's own task.

    The splits depend on the data and on `dataset`, never on the seed of the run.

    Raises:
        UserError: the name is unknown, the data is missing or damaged, a download failed,
            `dataset.root` cannot be used, a limit or fraction asks for more than there is, or the
            task needs a field that the data set has not.
    """
    if kind_of(dataset) not in LOADERS:
        known = ", ".join(sorted(LOADERS.keys() - {"library"}))
        hint = "One of a library: dataset=torchvision dataset.name=NAME, or dataset=tfds."
        raise UserError("dataset.name", dataset.name, f"one of {known}", hint)
    task = task or TaskConfig()
    wanted = None if task.name == AUTO else make_task(task, task.name)
    data = LOADERS[kind_of(dataset)](dataset, wanted)
    default = None if data.task is UNKNOWN else data.task.name
    return data.for_task(wanted or chosen(task, default, dataset.name))
