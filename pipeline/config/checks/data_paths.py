"""Check that a data set's files are there, before the jobs of a sweep."""

from pathlib import Path

from pipeline.config.checks.suggestions import nearest_path
from pipeline.config.column_datasets import HuggingfaceConfig
from pipeline.config.datasets import DatasetConfig, FolderConfig
from pipeline.errors import UserError


def missing_data(dataset: DatasetConfig) -> UserError | None:
    """Make the error for a `dataset.path`, or a folder of images, that does not exist; read nothing."""
    key, given = "dataset.path", getattr(dataset, "path", None)
    if isinstance(dataset, FolderConfig):
        key, given = "dataset.root", dataset.root
    on_hub = isinstance(dataset, HuggingfaceConfig) and not str(given).startswith((".", "/", "~"))
    if not given or on_hub:
        return None
    path = Path(given).expanduser()
    if path.exists():
        return None
    problem = "there is no such file or folder"
    return UserError(key, path, problem=problem, hint=nearest_path(path).strip())
