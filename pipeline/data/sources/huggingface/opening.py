"""Opening of a data set of `datasets`."""

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from pipeline.config.checks.suggestions import nearest_path
from pipeline.config.column_datasets import HuggingfaceConfig
from pipeline.errors import UserError
from pipeline.user_code import library_missing, shortened

if TYPE_CHECKING:
    from datasets import Dataset

KEY = "dataset.path"
STATE = ("dataset_dict.json", "state.json")  # files that save_to_disk writes


def open_dataset(config: HuggingfaceConfig) -> "dict[str, Dataset]":
    """Open the splits of a data set, mapped into memory.

    Raises:
        UserError: the library is missing, there is no such data set, or its files are damaged.
    """
    datasets = library()
    folder = Path(config.path).expanduser()
    if folder.is_dir() and any((folder / name).is_file() for name in STATE):
        try:
            found = datasets.load_from_disk(str(folder))
        except Exception as error:  # broken files raise many kinds
            problem = f"datasets cannot read it: {shortened(error)}"
            raise UserError(
                KEY, folder, problem=problem, hint="Write it again by save_to_disk."
            ) from error
    elif folder.exists() or config.path.startswith((".", "/", "~")):
        problem = "there is no such folder"
        if folder.exists():
            problem = "it is a file" if folder.is_file() else f"it has no {' or '.join(STATE)}"
        close = "" if folder.exists() else nearest_path(folder)
        hint = "Set it to a folder that save_to_disk has written."
        raise UserError(KEY, folder, problem=problem, hint=close + hint)
    else:
        found = from_hub(datasets, config)
    if isinstance(found, datasets.DatasetDict):
        return dict(found)
    return {"train": found}


def library() -> ModuleType:
    """Import `datasets`."""
    try:
        return import_module("datasets")
    except ImportError as error:
        raise library_missing("datasets", "dataset", "huggingface", error) from error


def from_hub(datasets: ModuleType, config: HuggingfaceConfig):  # noqa: ANN201 (an optional library)
    """Open a data set of the hub: the copy that is there, unless `dataset.download` is set."""
    cache = Path(config.root).expanduser().absolute() / "huggingface"
    if config.revision is not None and not config.download:  # the library would take any copy
        problem = "only the hub tells revisions apart"
        hint = "Type dataset.download=true; what is there is not fetched again."
        raise UserError("dataset.revision", config.revision, problem=problem, hint=hint)
    only_local = datasets.DownloadConfig(local_files_only=not config.download)
    offline = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = offline or not config.download
    try:
        return datasets.load_dataset(
            config.path,
            config.configuration,
            revision=config.revision,
            cache_dir=str(cache),
            download_config=only_local,
        )
    except Exception as error:  # a network or a hub raises many kinds
        if not config.download:
            problem = f"there is no such folder, and no copy in {cache}: {shortened(error)}"
            hint = f"{nearest_path(Path(config.path))}Type dataset.download=true to fetch it from the hub."
            raise UserError(KEY, config.path, problem=problem, hint=hint) from error
        problem = f"datasets cannot open it: {shortened(error)}"
        hint = "Check the name, dataset.configuration and dataset.revision, and the network."
        raise UserError(KEY, config.path, problem=problem, hint=hint) from error
    finally:
        datasets.config.HF_HUB_OFFLINE = offline
