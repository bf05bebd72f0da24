"""Tables with columns of numbers and of categories, decoded once into arrays."""

import hashlib
from pathlib import Path

import numpy as np

from pipeline.config.own_datasets import TableConfig
from pipeline.console import say_line
from pipeline.data.dataset import Data, Field, Split
from pipeline.data.sample_order import SampleOrder
from pipeline.data.sources.array_cache import Arrays, load_or_build
from pipeline.data.sources.arrays.named_arrays import STRATIFIED
from pipeline.data.sources.file_digest import digest_of
from pipeline.data.sources.table.decoding import check_split, decode
from pipeline.data.sources.table.features import Decoded, make_features, moments_of
from pipeline.data.sources.table.files import find_files
from pipeline.data.sources.table.targets import TASK_OF_TARGETS, target_notes, used_targets
from pipeline.data.splits import SPLITS, make_splits
from pipeline.data.stratified_order import KEY
from pipeline.tasks import TASKS, Task


def load(config: TableConfig, task: Task | None = None) -> Data:
    """Rows of a table: `features`, float64 [n, width], and the targets; see `make_features`.

    A target of texts or booleans is a class, `label` int64 [n]; numbers are `target`, float64 [n, targets],
    as they are; several booleans are `labels`, uint8 [n, targets]. With `task` few whole numbers can be
    classes, and zeros and ones labels.

    The first call decodes the file into `<root>/cache/table-<digest>-v2/`, and the features of a split into
    `<root>/cache/features-<digest>-v1/`. Means, deviations and categories are those of the training samples,
    with the validation samples that are held out of them, before `dataset.limit`.
    """
    label, arrays = open_table(config)
    decoded = Decoded.of(arrays)
    targets: dict[str, Field] = {name: arrays[name] for name in used_targets(arrays, task)}
    rows = np.arange(len(arrays["splits"]))
    places = {name: rows[arrays["splits"] == place] for place, name in enumerate(SPLITS)}
    given = {name: Split({"row": found}) for name, found in places.items() if len(found)}
    labels, order, train = None, None, places["train"]
    holds_out = "val" not in given and (config.val_fraction > 0 or "test" not in given)
    if config.folds is not None or config.limit is not None or holds_out:
        if "label" in targets and len(train) <= STRATIFIED:
            labels = np.asarray(arrays["label"][train])
        else:
            order = SampleOrder(len(train), KEY, ("split",))
    made = make_splits(
        given, config, test_fraction=config.test_fraction, order=order, labels=labels
    )
    training = np.sort(made.training.arrays["row"])
    digest = hashlib.sha256(f"{label} {config.missing}".encode() + training.tobytes())

    def build(scratch: Path) -> Arrays:
        return make_features(decoded, training, config, scratch)

    features = load_or_build(cache_of(config), f"features-{digest.hexdigest()[:16]}-v1", build)
    report_unknown(features, decoded)
    for note in target_notes(targets, "target" in arrays, training, config):
        say_line(note)
    whole = Split({"features": features["features"], **targets})
    used = whole.select(as_rows(made.train))
    val = used if made.val is made.train else whole.select(as_rows(made.val))
    test = val if made.test is made.val else whole.select(as_rows(made.test))
    sizes = {"label": len(decoded.classes)} if "label" in targets else {}
    classes = {"label": decoded.classes, "labels": tuple(config.targets)}.get(next(iter(targets)))
    moments, own = {"features": moments_of(features)}, TASKS[task_name(arrays)]()
    return Data("table", own, used, val, test, sizes, moments, classes)


def task_of(config: TableConfig) -> str:
    """Return the name of the task that the targets are for."""
    return task_name(open_table(config)[1])


def task_name(arrays: Arrays) -> str:
    """Return the name of the task for the arrays of `decode`."""
    return TASK_OF_TARGETS[used_targets(arrays, None)[0]]


def open_table(config: TableConfig) -> tuple[str, Arrays]:
    """Map the arrays of `decode`, which is called once; return them with their name in the array cache."""
    files = find_files(config)
    settings = (config.targets, config.columns, config.drop, config.categorical)
    others = (config.missing.value, config.split, config.separator)
    label = f"table-{digest_of(list(files.values()), sorted(files), settings, others)}-v2"

    def build(scratch: Path) -> Arrays:
        check_split(files, config)
        return decode(files, config, scratch)

    return label, load_or_build(cache_of(config), label, build)


def cache_of(config: TableConfig) -> Path:
    """Return the folder with the array cache."""
    return Path(config.root).expanduser().absolute()


def as_rows(split: Split) -> range | np.ndarray:
    """Return the rows of a split; as a range, which takes no memory, if they follow one another."""
    rows = split.arrays["row"]
    follow = range(rows[0], rows[0] + len(rows))
    return follow if np.array_equal(rows, follow) else rows


def report_unknown(features: Arrays, decoded: Decoded) -> None:
    """Say how many cells have a category that no training row has."""
    counts = features.get("unknown", np.zeros(0, np.int64))
    found = {name: int(n) for name, n in zip(decoded.categories, counts, strict=False) if n}
    if found:
        shown = ", ".join(f"{name} in {count}" for name, count in found.items())
        say_line(f"categories that no training row has are zeros: {shown} rows")
