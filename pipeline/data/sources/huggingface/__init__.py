"""Data sets of Hugging Face's `datasets`, from a folder or from the hub."""

from pathlib import Path

from pipeline.config.column_datasets import HuggingfaceConfig
from pipeline.data.dataset import Data
from pipeline.data.sources.array_cache import Arrays
from pipeline.data.sources.arrays.named_arrays import UNKNOWN
from pipeline.data.sources.columns import load_columns
from pipeline.data.sources.columns.decoding import decode
from pipeline.data.sources.columns.field_plan import Wanted
from pipeline.data.sources.huggingface.arrow_table import ArrowTable
from pipeline.data.sources.huggingface.opening import KEY, STATE, open_dataset
from pipeline.errors import UserError
from pipeline.tasks import Task


def load(config: HuggingfaceConfig, task: Task | None = None) -> Data:
    """Load the columns of a data set as fields; see `plan_fields`.

    `dataset.path` is a folder that `save_to_disk` has written, with one or several splits, or the name of a
    data set on the hub, which `dataset.download=true` fetches into `<root>/huggingface`. It is decoded once;
    later runs read neither it nor the library. Pin `dataset.revision` to tell versions of the hub apart.
    """
    if not config.path:
        hint = "Set dataset.path=FOLDER, or to a name on the hub."
        raise UserError(KEY, "''", "a folder that save_to_disk has written, or a name", hint)
    folder = Path(config.path).expanduser().absolute()
    is_saved = any((folder / name).is_file() for name in STATE)
    files = sorted(file for file in folder.rglob("*") if file.is_file()) if is_saved else []
    identity = ("" if folder.is_dir() else config.path, config.configuration, config.revision)

    def build(wanted: Wanted, scratch: Path) -> Arrays:
        return decode(ArrowTable(open_dataset(config)), config, wanted, scratch)

    return load_columns("huggingface", config, KEY, task, identity, build, files)


def task_of(config: HuggingfaceConfig) -> str | None:
    """Return the name of the task that the columns are for; None if none tells."""
    task = load(config).task
    return None if task is UNKNOWN else task.name
