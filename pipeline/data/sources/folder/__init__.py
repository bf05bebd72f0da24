"""Images of any size in a folder, decoded once into a file that all jobs map into memory."""

import os
from pathlib import Path

import numpy as np

from pipeline.config.checks.suggestions import nearest_path
from pipeline.config.datasets import FolderConfig
from pipeline.config.tasks import SegmentationConfig
from pipeline.console import say_line
from pipeline.data.dataset import Data, Field, Moments, Split
from pipeline.data.image_augmentation import augmentation_of
from pipeline.data.sources.array_cache import Arrays, load_or_build, remove_unfinished
from pipeline.data.sources.channel_stats import stored_moments
from pipeline.data.sources.folder.decoding import corrupt_file, decode_images
from pipeline.data.sources.folder.label_table import list_table
from pipeline.data.sources.folder.listing import Listing, list_folder
from pipeline.data.sources.folder.masks import (
    add_masks,
    check_sizes,
    class_count,
    decode_masks,
    mask_folders,
)
from pipeline.data.sources.folder.shared_listing import shared_listing
from pipeline.data.splits import SPLITS, make_splits
from pipeline.data.stored_images import ImageFile, StoredImages
from pipeline.data.stored_masks import MaskFile, StoredMasks
from pipeline.data.stratified_order import stratified_order
from pipeline.errors import UserError
from pipeline.tasks import Classification, Multilabel, Segmentation, Task

IGNORED = SegmentationConfig().ignored
NO_LABELS = "none"  # of `dataset.labels`


def load(config: FolderConfig, task: Task | None = None) -> Data:
    """Images, cropped batch by batch, and their classes.

    `image` is uint8 [n, size, size, 3]. With it comes `label`, int64 [n]; or with `dataset.separator`
    `labels`, uint8 [n, classes]; or with masks `mask`, uint8 [n, size, size]; or nothing with
    `dataset.labels=none`.

    The first call decodes all files into `<cache>/cache/folder-<digest>-<shorter side>-v1/`; an interrupted
    one is continued. `digest` covers names, sizes and times of the files, and their classes. Splits are the
    sub-folders train, val and test, or those of the table. A missing test split is the validation split if
    that is given; otherwise fractions are held out, every class in its proportion.
    """
    root, masks = mask_folders(check_root(config), config)
    cache = Path(config.cache).expanduser().absolute()

    def make() -> Listing:
        listing = list_images(root, config, masks is not None)
        return listing if masks is None else add_masks(listing, masks)

    identity = (str(root), str(masks), config.labels, config.separator)
    listing = shared_listing(cache, identity, make)
    if listing.labels is not None:
        check_classes(listing, listing.labels, config)
    store = config.store or config.resize
    threads = config.workers or len(os.sched_getaffinity(0))

    def build(scratch: Path) -> Arrays:
        remove_stale(scratch, root)
        files, skips = listing.files, config.skip_corrupt
        arrays = decode_images(scratch, root, files, store, threads, skips)
        if masks is not None:
            arrays |= decode_masks(scratch, listing, store, threads, skips)
            check_sizes(listing, arrays)
        return arrays | {"order": order_of(listing, is_kept(arrays))}

    label = f"folder-{listing.digest[:16]}-{store}-v1"
    arrays = load_or_build(cache, label, build, "dataset.cache", resumes=True)
    report_skipped(listing, is_kept(arrays), config)
    ignored = task.ignored if isinstance(task, Segmentation) else IGNORED
    return data_of(config, listing, arrays, ignored)


def task_of(config: FolderConfig) -> str:
    """Return the name of the task that the folder is for."""
    if mask_folders(check_root(config), config)[1] is not None:
        return "segmentation"
    return "multilabel" if config.separator is not None else "classification"


def is_kept(arrays: Arrays) -> np.ndarray:
    """Tell which files were decoded, and their masks: bool [files]."""
    kept = arrays["sizes"][:, 0] > 0
    return kept & (arrays["mask_sizes"][:, 0] > 0) if "mask_sizes" in arrays else kept


def remove_stale(scratch: Path, root: Path) -> None:
    """Remove what interrupted builds have left of the same folder when it held other files."""
    own, note = scratch.parent, scratch / "root"
    note.write_text(str(root))
    for other in own.parent.glob(f"folder-*{own.suffix}"):
        left = other / note.relative_to(own)
        if other != own and left.exists() and left.read_text() == str(root):
            remove_unfinished(other)


def check_root(config: FolderConfig) -> Path:
    """Return `dataset.root` as an absolute path; refuse what is no folder that can be read."""
    if not config.root:
        hint = "Set dataset.root=FOLDER."
        raise UserError("dataset.root", "''", "the folder with the images", hint)
    root = Path(config.root).expanduser().absolute()
    if not root.is_dir():
        problem = "it is a file, not a folder" if root.exists() else "there is no such folder"
        hint = nearest_path(root).strip() or "Set dataset.root to the folder with the images."
        raise UserError("dataset.root", root, problem=problem, hint=hint)
    if not os.access(root, os.R_OK | os.X_OK):
        raise UserError("dataset.root", root, problem="you may not read this folder")
    return root


def list_images(root: Path, config: FolderConfig, has_masks: bool) -> Listing:
    """List the images with the classes that `dataset.labels` gives; those with masks have none."""
    if has_masks or config.labels in (None, NO_LABELS):
        return list_folder(root, has_classes=not has_masks and config.labels is None)
    return list_table(root, Path(config.labels).expanduser(), config.separator)


def check_classes(listing: Listing, labels: np.ndarray, config: FolderConfig) -> None:
    """Refuse a single class, and classes with too few images for the splits."""
    key, value = (
        ("dataset.labels", config.labels) if config.labels else ("dataset.root", config.root)
    )
    if len(listing.classes) < 2:
        problem = f"all images are of one class: {', '.join(listing.classes) or 'none'}"
        hint = f"For images without classes set dataset.labels={NO_LABELS}."
        raise UserError(key, value, problem=problem, hint=hint)
    is_given = listing.splits is not None
    train = labels[listing.splits == 0] if is_given else labels
    is_single = labels.ndim == 1
    counts = np.bincount(train, minlength=len(listing.classes)) if is_single else train.sum(axis=0)
    needed = 1 if is_given else 2 + (config.val_fraction > 0)
    if (few := np.flatnonzero(counts < needed)).size:
        name, count = listing.classes[few[0]], counts[few[0]]
        more = f", and {few.size - 1} more classes are as small" if few.size > 1 else ""
        images = "image" if count == 1 else "images"
        hint = f"Add images, remove the class, or give the splits: {', '.join(SPLITS)}."
        if is_given or count == 0:
            problem = f"the class {name} has no image to train on{more}"
        else:
            problem = f"the class {name} has {count} {images} for {needed} splits{more}"
        raise UserError(key, value, problem=problem, hint=hint)


def order_of(listing: Listing, is_kept: np.ndarray) -> np.ndarray:
    """Order the kept images: int64 [kept].

    Without given splits all are in a stratified order, so that a fraction is a slice. Otherwise the training
    images are, and those of validation and test follow in the order of their names.
    """
    kept, labels = np.flatnonzero(is_kept), listing.labels
    if labels is None or labels.ndim > 1:
        labels = np.zeros(len(is_kept), np.int64)  # any order
    if listing.splits is None:
        return kept[stratified_order(labels[kept])]
    train, *others = (kept[listing.splits[kept] == place] for place in range(len(SPLITS)))
    return np.concatenate([train[stratified_order(labels[train])], *others])


def report_skipped(listing: Listing, kept: np.ndarray, config: FolderConfig) -> None:
    """Say how many files were left out; refuse that, if it is not asked for now."""
    skipped = np.flatnonzero(~kept)
    if skipped.size:
        first = listing.root / listing.files[skipped[0]]
        if not config.skip_corrupt:
            raise corrupt_file(first, count=skipped.size)
        say_line(f"left out {skipped.size} files that cannot be decoded: {first}, …")


def data_of(config: FolderConfig, listing: Listing, arrays: Arrays, ignored: int) -> Data:
    """Make the data set from the decoded images; `ignored` is the value of masks that is no class."""
    order = arrays["order"]
    augmentation = augmentation_of(config, config.scale)
    images = StoredImages(
        ImageFile(arrays["pixels"], arrays["offsets"], arrays["sizes"], arrays["sums"]),
        order,
        config.size,
        config.resize,
        augmentation,
        config.workers,
    )
    fields: dict[str, Field] = {"image": images}
    if listing.labels is not None:
        fields["label" if listing.labels.ndim == 1 else "labels"] = listing.labels[order]
    if listing.masks:
        stored = MaskFile(arrays["masks"], arrays["mask_offsets"], arrays["mask_sizes"])
        fields["mask"] = StoredMasks(
            stored, order, config.size, config.resize, augmentation, config.workers
        )
    given = given_splits(listing, Split(fields))
    train, val, test, training = make_splits(given, config, test_fraction=config.test_fraction)
    moments = moments_of(config, training)
    classes = listing.classes or None
    sizes = {"label": len(listing.classes)} if "label" in fields else {}
    if listing.masks:
        sizes["mask"] = class_count(listing, arrays["mask_values"], order, ignored)
    own = Segmentation() if listing.masks else Classification()
    own = Multilabel() if "labels" in fields else own
    return Data("folder", own, train, val, test, sizes, {"image": moments}, classes)


def given_splits(listing: Listing, whole: Split) -> dict[str, Split]:
    """Return the splits that the folder or the table gives, by name; all images are `train` if none are."""
    if listing.splits is None:
        return {"train": whole}
    given = listing.splits[whole.stored["image"].rows]
    ends = np.cumsum(np.bincount(given, minlength=len(SPLITS))).tolist()
    parts = zip(SPLITS, [0, *ends], ends, strict=False)
    return {name: whole[first:last] for name, first, last in parts if last > first}


def moments_of(config: FolderConfig, training: Split) -> Moments:
    """Return `dataset.mean` and `dataset.std`, or the exact moments of the training images as decoded."""
    if config.mean and config.std:
        return Moments(np.array(config.mean) * 255, np.array(config.std) * 255)
    images = training.stored["image"]
    assert isinstance(images, StoredImages)
    return stored_moments(images)
