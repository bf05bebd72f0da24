"""The `dataset` group."""

from enum import Enum
from math import floor

from omegaconf import MISSING

from pipeline.config.fields import ConfigGroup, option, require


class Source(Enum):
    torchvision = "torchvision"
    tfds = "tfds"


class DatasetConfig(ConfigGroup, key="dataset"):
    name: str = option(MISSING, "name of the data set")
    root: str = option(
        "${oc.env:TANDEM_DATA,data}", "folder with the raw files and the array cache"
    )
    download: bool = option(False, "fetch what is missing under dataset.root")
    val_fraction: float = option(
        0.1, "fraction of the training set held out for validation", "in [0, 1)"
    )
    folds: int | None = option(
        None,
        "cross-validation: cut the samples (the training set, where a test set is given) into so many parts",
        "null or at least 2",
    )
    fold: int | None = option(
        None, "the part that is the test set, from 0; a sweep over all ends in their mean"
    )
    limit: int | None = option(None, "use only so many training samples", "null or at least 1")
    augment: bool = option(False, "random crop and flip of the training images")
    crop_padding: int = option(4, "zeros around an image before the random crop", "0 or more")
    flip: bool = option(True, "mirror half of the training images left to right")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.folds is None:
            hint = "Set dataset.folds=5, too."
            allowed = "left out without dataset.folds"
            require(self.fold is None, "dataset.fold", self.fold, allowed, hint)
        else:
            last = self.folds - 1
            every = ",".join(map(str, range(self.folds)))
            fits = self.fold is not None and 0 <= self.fold <= last
            hint = f"To run all: -m dataset.fold={every}."
            value = "null" if self.fold is None else self.fold
            require(
                fits, "dataset.fold", value, f"in 0 … {last}, with dataset.folds={self.folds}", hint
            )


class DigitsConfig(DatasetConfig):
    name: str = "digits"
    test_fraction: float = option(0.2, "fraction of the digits held out for testing", "in (0, 1)")


class LineConfig(DatasetConfig):
    name: str = "line"


class SyntheticConfig(DatasetConfig):
    name: str = "synthetic"
    samples: int = option(
        4096, "training samples; validation and test have a quarter of that each", "at least 1"
    )
    shape: list[int] = option(
        [32, 32, 3],
        "of one sample: [height, width, channels]",
        "[height, width, channels], each at least 1",
    )
    classes: int = option(10, "number of classes", "at least 2")


class ImagesConfig(DatasetConfig):
    """MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100, through either library."""

    source: Source = option(Source.torchvision, "which library reads the raw files")


class TextConfig(DatasetConfig):
    """Any text, read byte by byte: a vocabulary of 256 tokens without unknown ones."""

    name: str = "text"
    path: str | None = option(
        None, "a text file, or a folder of them; null: the source of Python's standard library"
    )
    pattern: str = option("*.txt", "which files of a folder, joined in the order of their names")
    length: int = option(128, "sequence (context) length in bytes", "at least 1")
    max_bytes: int | None = option(
        None, "use only so many bytes from the start of the text", "null or at least 1"
    )
    test_fraction: float = option(
        0.1, "fraction of the text, at its end, held out for testing", "in (0, 1)"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.path != "", "dataset.path", "''", "null, or a file or folder")
        fits = self.pattern not in ("", ".") and not self.pattern.startswith("/")
        allowed = "a pattern of names below dataset.path, like *.txt or **/*.md"
        require(fits, "dataset.pattern", self.pattern or "''", allowed)


class CroppedConfig(DatasetConfig):
    """Images of any size, of which training takes random parts."""

    crop_pct: float = option(
        0.875,
        "evaluation resizes the shorter side to dataset.size / dataset.crop_pct and takes the middle",
        "in (0, 1]",
    )
    store: int | None = option(
        None,
        "shorter side of the images that are kept, for all sizes up to it; null: as in evaluation",
        "null or at least 1",
    )
    ratio: list[float] = option(
        [3 / 4, 4 / 3],
        "with dataset.augment, width over height of a crop",
        "[lowest, highest], above 0",
    )
    jitter: list[float] = option(
        [0.0, 0.0, 0.0],
        "with dataset.augment, largest change of brightness, contrast and saturation",
        "three numbers in [0, 10]",
    )
    workers: int | None = option(
        None, "threads that decode and crop images; null: as many as cores", "null or at least 1"
    )

    def resize_for(self, size: int) -> int:
        """Return the shorter side of an image before its middle of `size` is taken, as timm rounds it."""
        return floor(size / self.crop_pct)

    def check_store(self, size: int) -> None:
        """Refuse to keep images that are smaller than those that the model gets."""
        allowed = f"null or at least dataset.size={size}"
        require(self.store is None or self.store >= size, "dataset.store", self.store, allowed)


class FolderConfig(CroppedConfig):
    """Images of any size in a folder: JPEG and PNG."""

    name: str = "folder"
    root: str = option(
        "", "folder with the images: a sub-folder for each class, also below train, val and test"
    )
    cache: str = option(
        "${oc.env:TANDEM_DATA,data}", "folder in which the decoded images are kept for all runs"
    )
    labels: str | None = option(
        None,
        "a CSV table: file, label and, if given, split; null: labels are sub-folders; none: no labels",
    )
    masks: str | None = option(
        None,
        "folder with the masks of the images, PNG files of the same names, for task=segmentation; null: the "
        "sub-folder masks, beside images",
    )
    separator: str | None = option(
        None, "stands between several labels of one image in the table, for task=multilabel"
    )
    test_fraction: float = option(
        0.1, "fraction of the images held out for testing, if there is no folder test", "in (0, 1)"
    )
    size: int = option(224, "height and width of the images that the model gets", "at least 1")
    scale: list[float] = option(
        [0.08, 1.0],
        "with dataset.augment, share of the area that a random-resized crop takes",
        "[lowest, highest], in (0, 1]",
    )
    mean: list[float] | None = option(
        None,
        "of each channel, to normalise by; null: of the training images (ImageNet's: [0.485,0.456,0.406])",
        "null or three numbers in [0, 1]",
    )
    std: list[float] | None = option(
        None,
        "of each channel, to normalise by; null: of the training images (ImageNet's: [0.229,0.224,0.225])",
        "null or three numbers in (0, 1]",
    )
    skip_corrupt: bool = option(False, "leave out files that cannot be decoded, and say how many")

    @property
    def resize(self) -> int:
        """Shorter side of an image in evaluation, before its middle is taken."""
        return self.resize_for(self.size)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_store(self.size)
        hint = "Leave out dataset.labels, or dataset.masks."
        both = self.masks is not None and self.labels not in (None, "none")
        require(not both, "dataset.masks", self.masks, "null with dataset.labels", hint)
        alone = (self.mean is None) != (self.std is None)
        hint = "Set dataset.std, too." if self.std is None else "Set dataset.mean, too."
        given = "dataset.mean" if self.std is None else "dataset.std"
        require(
            not alone, given, self.mean or self.std, "null, or set together with the other", hint
        )


class ReverseConfig(DatasetConfig):
    name: str = "reverse"
    samples: int = option(
        4096, "training samples; validation and test have a quarter of that each", "at least 1"
    )
    length: int = option(12, "tokens of the longest sequence; the shortest has one", "at least 1")
    vocabulary: int = option(16, "number of different tokens, padding included", "in 2 … 256")
    reversed: bool = option(True, "false: the target is a copy of the source")


class ScenesConfig(DatasetConfig):
    """Handwritten digits in larger images."""

    name: str = "scenes"
    samples: int = option(
        2000, "training samples; validation and test have a quarter of that each", "at least 1"
    )
    size: int = option(32, "height and width of an image", "at least 8")
    cell: int = option(16, "side of the square that each digit has for itself", "at least 8")
    most: int = option(4, "digits in an image, at most", "at least 1")

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = f"at most dataset.size={self.size}"
        require(self.cell <= self.size, "dataset.cell", self.cell, allowed)


DATASETS = {
    "digits": DigitsConfig,
    "line": LineConfig,
    "synthetic": SyntheticConfig,
    "images": ImagesConfig,
    "text": TextConfig,
    "scenes": ScenesConfig,
    "folder": FolderConfig,
    "reverse": ReverseConfig,
}
