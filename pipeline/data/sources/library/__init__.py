"""Any data set of torchvision or of TFDS, by its name there, as columns."""

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
EXAMPLES = {
    Source.torchvision: "a class of torchvision.datasets, such as KMNIST",
    Source.tfds: "a builder of TFDS, such as kmnist",
}


def load(config: LibraryConfig, task: Task | None = None) -> Data:
    """Load the columns of a data set as fields; see `plan_fields`.

    The first call reads the files below `dataset.root` in a subprocess; later calls map the array cache.
    """
    if not config.name:
        raise UserError(KEY, "''", EXAMPLES[config.source], "Set dataset.name=NAME.")

    def build(wanted: Wanted, scratch: Path) -> Arrays:
        return decode_columns(config, wanted, scratch)

    label = f"{config.name.replace('/', '-').replace(':', '-')}-{config.source.name}"
    identity = (config.name, sorted(config.options.items(), key=lambda item: item[0]))
    return load_columns(label, config, KEY, task, identity, build, [])


def task_of(config: LibraryConfig) -> str | None:
    """Return the name of the task that the columns are for; None if none tells."""
    task = load(config).task
    return None if task is UNKNOWN else task.name
