"""Any data set of torchvision or of TFDS, by its name there, as columns."""

from collections.abc import Callable
from pathlib import Path

from pipeline.config.column_datasets import LibraryConfig
from pipeline.config.datasets import Source
from pipeline.data.dataset import Data
from pipeline.data.sources.array_cache import Arrays
from pipeline.data.sources.arrays.named_arrays import UNKNOWN
from pipeline.data.sources.columns import load_columns
from pipeline.data.sources.columns.field_plan import Wanted
from pipeline.data.sources.library.column_subprocess import decode_columns
from pipeline.errors import UserError
from pipeline.tasks import Task

KEY = "dataset.name"
Decode = Callable[[LibraryConfig, Wanted, Path], Arrays]
EXAMPLES = {
    Source.torchvision: "a class of torchvision.datasets, such as KMNIST",
    Source.tfds: "a builder of TFDS, such as kmnist",
}


def load(config: LibraryConfig, task: Task | None = None, decode: Decode = decode_columns) -> Data:
    """Load the columns of a data set as fields; see `plan_fields`.

    The first call reads the files below `dataset.root` by `decode`, in a subprocess; later calls map the
    array cache.
    """
    if not config.name:
        raise UserError(KEY, "''", EXAMPLES[config.source], "Set dataset.name=NAME.")

    def build(wanted: Wanted, scratch: Path) -> Arrays:
        return decode(config, wanted, scratch)

    options = sorted(config.options.items(), key=lambda option: option[0])
    identity = (config.name, config.source.name, options)
    return load_columns(config.name, config, KEY, task, identity, build, [])


def task_of(config: LibraryConfig) -> str | None:
    """Return the name of the task that the columns are for; None if none tells."""
    task = load(config).task
    return None if task is UNKNOWN else task.name
