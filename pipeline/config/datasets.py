"""The `dataset` group."""

from dataclasses import dataclass
from enum import Enum

from omegaconf import MISSING

from pipeline.config.fields import option, require


class Source(Enum):
    torchvision = "torchvision"
    tfds = "tfds"


@dataclass(kw_only=True)
class DatasetConfig:
    name: str = option(MISSING, "the data set's name in pipeline/datasets")
    root: str = option(
        "${oc.env:TANDEM_DATA,data}", "folder with the raw files and the array cache"
    )
    download: bool = option(False, "fetch what is missing under dataset.root")
    val_fraction: float = option(0.1, "share of the training set held out for validation")
    limit: int | None = option(None, "use only so many training samples")
    augment: bool = option(False, "random crop and flip of the training images")
    crop_padding: int = option(4, "zeros around an image before the random crop")
    flip: bool = option(True, "mirror half of the training images left to right")

    def __post_init__(self) -> None:
        require(0 <= self.val_fraction < 1, "dataset.val_fraction", self.val_fraction, "in [0, 1)")
        require(
            self.limit is None or self.limit >= 1, "dataset.limit", self.limit, "null or at least 1"
        )
        require(self.crop_padding >= 0, "dataset.crop_padding", self.crop_padding, "0 or more")


@dataclass(kw_only=True)
class DigitsConfig(DatasetConfig):
    name: str = "digits"


@dataclass(kw_only=True)
class LineConfig(DatasetConfig):
    name: str = "line"


@dataclass(kw_only=True)
class SyntheticConfig(DatasetConfig):
    name: str = "synthetic"
    samples: int = option(4096, "training samples; a quarter as many again for validation and test")
    shape: list[int] = option([32, 32, 3], "of one sample: [height, width, channels]")
    classes: int = option(10, "number of classes")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.samples >= 1, "dataset.samples", self.samples, "at least 1")
        require(
            len(self.shape) == 3 and min(self.shape) >= 1,
            "dataset.shape",
            self.shape,
            "[height, width, channels], each at least 1",
        )
        require(self.classes >= 2, "dataset.classes", self.classes, "at least 2")


@dataclass(kw_only=True)
class ImagesConfig(DatasetConfig):
    """MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100, through either library."""

    source: Source = option(Source.torchvision, "which library reads the raw files")


@dataclass(kw_only=True)
class TextConfig(DatasetConfig):
    """Any text, read byte by byte: 256 tokens, and none that is unknown."""

    name: str = "text"
    path: str | None = option(
        None, "a text file, or a folder of them; null: the source of Python's standard library"
    )
    pattern: str = option("*.txt", "which files of a folder, joined in the order of their names")
    length: int = option(128, "bytes that a sample predicts, and the most it is predicted from")
    max_bytes: int | None = option(None, "use only so many bytes from the start of the text")
    test_fraction: float = option(0.1, "share of the text, its end, held out for testing")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.path != "", "dataset.path", "''", "null, or a file or folder")
        require(
            self.pattern not in ("", ".") and not self.pattern.startswith("/"),
            "dataset.pattern",
            self.pattern or "''",
            "a pattern of names below dataset.path, like *.txt or **/*.md",
        )
        require(self.length >= 1, "dataset.length", self.length, "at least 1")
        require(
            self.max_bytes is None or self.max_bytes >= 1,
            "dataset.max_bytes",
            self.max_bytes,
            "null or at least 1",
        )
        require(
            0 < self.test_fraction < 1, "dataset.test_fraction", self.test_fraction, "in (0, 1)"
        )


DATASETS = {
    "digits": DigitsConfig,
    "line": LineConfig,
    "synthetic": SyntheticConfig,
    "images": ImagesConfig,
    "text": TextConfig,
}
