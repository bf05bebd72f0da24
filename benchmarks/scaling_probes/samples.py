"""Cost over the samples of a data set: of files, and of what needs no data."""

import time
from functools import partial
from pathlib import Path
from typing import BinaryIO

from benchmarks.scaling_probes.case import Case, Values

LENGTH = 8  # tokens of a sample
PART = 2**24  # bytes written at once


def make_tokens(size: int, folder: Path) -> None:
    """Make a file of tokens that are all 0."""
    with (folder / "tokens.bin").open("wb") as file:
        write_zeros(file, 2 * LENGTH * size)


def make_arrays(size: int, folder: Path) -> None:
    """Make features that are all 0, and classes."""
    import numpy as np

    arrays = folder / "arrays"
    arrays.mkdir()
    np.save(arrays / "label.npy", (np.arange(size, dtype=np.uint32) % 7).astype(np.uint8))
    header = {"descr": "<f4", "fortran_order": False, "shape": (size, 4)}
    with (arrays / "features.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        write_zeros(file, 4 * 4 * size)


def write_zeros(file: BinaryIO, count: int) -> None:
    """Write so many bytes: in a sparse file the kernel would make each page as it is first read."""
    for start in range(0, count, PART):
        file.write(bytes(min(PART, count - start)))


def train_on(kind: str, size: int, folder: Path) -> Values:
    """Train on a file, twice: as it is new, and as what is computed from all of it is kept."""
    from benchmarks.scaling_probes.training import train_some

    del size
    tokens = [
        "dataset=tokens", f"dataset.path={folder}/tokens.bin", "dataset.dtype=uint16",
        f"dataset.length={LENGTH}", "dataset.vocabulary=256",
        "model=gpt", "model.width=16", "model.depth=1", "model.heads=2",
    ]  # fmt: skip
    arrays = ["dataset=arrays", f"dataset.path={folder}/arrays", "model=mlp", "model.hidden=[16]"]
    overrides = {"tokens": tokens, "arrays": arrays}[kind]
    every = ["backend=torch", f"dataset.root={folder}/data"]
    first, again = (train_some([*every, *overrides], folder / turn) for turn in ("1", "2"))
    return {
        "set-up s": first["set-up s"],
        "set-up again s": again["set-up s"],
        "step ms": again["step ms"],
        "own MB": again["own MB"],
    }


def without_data(size: int, folder: Path) -> Values:
    """Split, order and sign an epoch of so many samples of which there are only shapes."""
    import numpy as np

    from benchmarks.scaling_probes.training import compose, own_memory_mb
    from pipeline.data.batch_plan import BatchPlan
    from pipeline.data.data_spec import DataSpec, placeholder_data
    from pipeline.data.sample_order import SampleOrder
    from pipeline.storage.signature import signature
    from pipeline.training.intervals import make_intervals

    del folder
    config = compose(["model=mlp", "train.epochs=3", "dataset.augment=false"])
    spec = DataSpec(
        name="made up", task="classification", sizes={"label": 10}, channels={},
        fields={"features": ((4,), "float32"), "label": ((), "int64")},
        samples={"train": size, "val": size // 10, "test": size // 10},
    )  # fmt: skip
    before = time.process_time()
    plan = BatchPlan(placeholder_data(spec, config.task), 0, config.train.batch_size, None)
    steps = plan.steps_per_epoch
    for epoch in range(3):
        for position in (0, steps // 2, steps - 1):
            assert plan.indices(epoch * steps + position).max() < size
    held_out = SampleOrder(size, 0, ("split",))[size - size // 10 :]
    assert len(held_out[np.arange(64)]) == 64
    assert make_intervals(config.train, size).total == 3 * steps
    assert len(signature(config)) == 16
    return {"CPU ms": 1000 * (time.process_time() - before), "own MB": own_memory_mb()}


FILES = "to the first step of torch, with the file new and with what was computed from it kept"
CASES = [
    Case(
        "tokens",
        "Samples in a file of tokens",
        "samples",
        f"`dataset=tokens` on a file of windows of {LENGTH}: {FILES}.",
        (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000),
        prepare=make_tokens,
        measure=partial(train_on, "tokens"),
    ),
    Case(
        "arrays",
        "Samples in arrays with classes",
        "samples",
        f"`dataset=arrays`, whose splits hold each class in its proportion: {FILES}.",
        (10_000, 100_000, 1_000_000, 3_000_000, 9_000_000),
        prepare=make_arrays,
        measure=partial(train_on, "arrays"),
    ),
    Case(
        "order",
        "Samples without data",
        "samples",
        "Nine batches of three epochs, a held-out part, the timetable and the signature.",
        (10_000, 1_000_000, 100_000_000, 1_000_000_000),
        quick=(10_000, 1_000_000, 100_000_000),
        measure=without_data,
    ),
]
