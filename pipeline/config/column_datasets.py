"""The data sets of the `dataset` group that a library reads, with columns by name."""

from typing import Any

from pipeline.config.datasets import CroppedConfig, Source
from pipeline.config.fields import option, require
from pipeline.config.own_datasets import NamedArraysConfig


class ColumnsConfig(CroppedConfig, NamedArraysConfig):
    """Data sets of named columns: numbers, classes, images, and lists of integers.

    With `dataset.scale` images are kept, cropped and recoloured as those of `dataset=folder`.
    """

    targets: list[str] | None = option(
        None,
        "columns to predict, [] for none; null: as the data set says, or named label, target, …",
    )
    columns: list[str] | None = option(
        None, "columns that the model gets; null: all that it can take beside the targets"
    )
    splits: dict[str, str] = option(
        {},
        "the data set's names of train, val and test, like {train:train_clean}; else the usual ones",
    )
    size: int | None = option(
        None,
        "height and width that images are resized and cut to; null: as they are, all of one size",
        "null or at least 1",
    )
    scale: list[float] | None = option(
        None,
        "with dataset.augment, share of the area that a random-resized crop takes, as of dataset=folder; "
        "null: images are kept at dataset.size, and cropped by dataset.crop_padding",
        "null or [lowest, highest], in (0, 1]",
    )
    length: int | None = option(
        None,
        "tokens of a sample: longer lists are cut, shorter ones padded; null: the longest list",
        "null or at least 1",
    )
    padding: int = option(0, "token that shorter lists are filled with", "0 or more")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale is not None:
            allowed = "set, together with dataset.scale"
            hint = "Set dataset.size=224, for example."
            require(self.size is not None, "dataset.size", "null", allowed, hint)
            self.check_store(self.size or 0)
            return
        allowed = "left out without dataset.scale"
        hint = "Set dataset.scale=[0.08,1.0] for random-resized crops."
        require(self.store is None, "dataset.store", self.store, allowed, hint)
        require(not any(self.jitter), "dataset.jitter", self.jitter, allowed, hint)


class HuggingfaceConfig(ColumnsConfig):
    """A data set of Hugging Face's `datasets`."""

    name: str = "huggingface"
    path: str = option("", "a folder that save_to_disk has written, or a name on the hub")
    configuration: str | None = option(None, "configuration of a data set of the hub")
    revision: str | None = option(None, "revision (commit, tag) of a data set of the hub")


class LibraryConfig(ColumnsConfig):
    """Any data set of torchvision or of TFDS."""

    name: str = option("", "class of torchvision.datasets, or builder of TFDS")
    source: Source = option(Source.torchvision, "which library reads it")
    options: dict[str, Any] = option({}, "further arguments of the class, like {split:letters}")


COLUMN_DATASETS = {"huggingface": HuggingfaceConfig, "library": LibraryConfig}
