"""Images per second that `dataset=folder` gives a training step, beside torch's DataLoader on the same JPEGs.

Both take a random-resized crop and a random flip of every image, prepare batches ahead, and end in a
normalised batch on the CPU. The DataLoader has torchvision's `ImageFolder` and 2 worker processes, and
decodes each JPEG in every epoch; `folder` has 2 threads, and decodes once, which is timed apart. The three
take turns in alternating order until their ratios are known within 2 %, or `--rounds` are over. Without
`--root` JPEGs are made, half as large as ImageNet's.

    python benchmarks/folder.py [--rounds 20] [--batches 20] [--root FOLDER] [--images 1500] [--size 224]

`--files N` instead times the first step of a run on N small files, when they are decoded and when the next
run finds them (N = 1000000 takes some GB and half an hour):

    python benchmarks/folder.py --files 1000000
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pipeline.bench.statistics import ratio  # noqa: E402
from pipeline.bench.timing.rounds import rounds_of  # noqa: E402

BATCH, WORKERS = 64, 2
READY = 5  # batches that any of the loaders may have prepared while the others had their turn
BACKENDS = ("lightning_impl", "flax_impl")
BESIDE = "DataLoader"

Batches = Iterator[object]


def write_jpegs(
    root: Path, count: int, height: int = 375, width: int = 500, noise: int = 12
) -> None:
    """Write JPEGs of smooth colours with noise, so that they take about as many bytes as photographs."""
    random = np.random.default_rng(0)
    for index in range(count):
        folder = root / f"class{index % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        corners = Image.fromarray(random.integers(0, 256, (9, 12, 3), dtype=np.uint8))
        image = np.asarray(corners.resize((width, height), Image.Resampling.BICUBIC), np.int16)
        image = image + random.integers(-noise, noise + 1, image.shape, dtype=np.int16)
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(
            folder / f"{index:07}.jpg", quality=90
        )


def by_dataloader(root: Path, size: int) -> Batches:
    """Yield normalised batches of torch's DataLoader without end, with workers that stay."""
    import torch
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    steps = [
        transforms.RandomResizedCrop(size), transforms.RandomHorizontalFlip(),
        transforms.PILToTensor(),
    ]  # fmt: skip
    images = datasets.ImageFolder(root, transforms.Compose(steps))
    loader = DataLoader(
        images, BATCH, shuffle=True, num_workers=WORKERS, drop_last=True, persistent_workers=True
    )
    mean, std = (torch.tensor(values).reshape(1, 3, 1, 1) for values in ((127.5,) * 3, (60.0,) * 3))
    while True:
        for batch, _ in loader:  # uint8 until here: fewer bytes between the processes
            yield (batch.float() - mean) * (1 / std)


def by_folder(backend: str, root: Path, cache: Path, size: int) -> Batches:
    """Yield normalised batches of a backend's loader without end."""
    import importlib

    from hydra import compose

    from pipeline.config.experiment import register, typed
    from pipeline.config.hydra_compat import compose_from
    from pipeline.data import sources
    from pipeline.data.batch_plan import make_batch_plan

    register()
    with compose_from(ROOT / "conf"):
        config = typed(
            compose(
                "config",
                [
                    "dataset=folder", f"dataset.root={root}", f"dataset.cache={cache}",
                    f"dataset.size={size}", "dataset.augment=true", f"dataset.workers={WORKERS}",
                    f"train.batch_size={BATCH}", "accelerator=cpu",
                ],
            )
        )  # fmt: skip
    plan = make_batch_plan(config, sources.load(config.dataset))
    data, gather, devices = (
        importlib.import_module(f"{backend}.{name}")
        for name in ("data.batches", "data.gather", "device")
    )
    device = devices.prepare(config)
    if backend == "lightning_impl":
        done = [0]
        batches = data.TrainBatches(plan, device, 1, lambda: done[0])
        while True:
            for batch in batches:
                yield batch["image"]
            done[0] += plan.steps_per_epoch

    import jax

    batches = data.TrainBatches(plan, device, 1)

    @jax.jit
    def prepare(samples: object, rows: object, draws: object) -> object:
        gathered = gather.gather_batch(samples, rows, draws, plan.augmented, plan.padding)
        return gather.normalised(samples, gathered)["image"]

    step = 0
    while True:
        samples, rows, draws, _ = batches(step, 1)
        one = jax.tree.map(lambda array: array[0, 0], (rows, draws))
        yield prepare(samples, *one).block_until_ready()
        step += 1


def rate(batches: Batches, count: int) -> float:
    """Images per second of the next batches."""
    for _ in islice(batches, READY):
        pass
    started = time.perf_counter()
    for _ in islice(batches, count):
        pass
    return count * BATCH / (time.perf_counter() - started)


def compare(options: argparse.Namespace, root: Path, cache: Path) -> None:
    """Print images per second of the three loaders."""
    started = time.perf_counter()
    loaders = {"torch": by_folder(BACKENDS[0], root, cache, options.size)}
    next(loaders["torch"])
    files = [file.stat().st_size for file in root.rglob("*.jpg")]
    kept = sum(file.stat().st_size for file in cache.rglob("*.npy"))
    print(
        f"{len(files):,} JPEGs, {sum(files) / len(files) / 1e3:.0f} KB each; decoded once in "
        f"{time.perf_counter() - started:.1f} s into {kept / len(files) / 1e3:.0f} KB each"
    )
    loaders = {BESIDE: by_dataloader(root, options.size)} | loaders
    next(loaders[BESIDE])  # starts its processes, before JAX has threads
    loaders["jax"] = by_folder(BACKENDS[1], root, cache, options.size)
    turns = {name: partial(rate, batches, options.batches) for name, batches in loaders.items()}
    for take in turns.values():  # the first turns warm the machine up
        take()
    found = rounds_of(turns, options.rounds)
    print("| loader | images/s | ratio |\n|---|---|---|")
    for name, rates in found.items():
        gain = "" if name == BESIDE else ratio(found[BESIDE], rates).in_words
        print(f"| {name} | {median(rates):,.0f} | {gain} |")


def first_step(options: argparse.Namespace, root: Path, cache: Path) -> None:
    """Print the seconds to the first batch on many small files: decoded, and found again."""
    write_jpegs(root, options.files, 32, 32)
    for name in ("decoded", "found again"):
        started = time.perf_counter()
        next(by_folder(BACKENDS[0], root, cache, 32))
        print(
            f"first batch of {options.files:,} files, {name}: {time.perf_counter() - started:.1f} s"
        )


def main() -> None:
    """Measure, in a folder that is removed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20, help="at most")
    parser.add_argument("--batches", type=int, default=20, help=f"of {BATCH} images, in each round")
    parser.add_argument("--root", type=Path, help="a folder of JPEGs in sub-folders by class")
    parser.add_argument("--images", type=int, default=1500, help="that are made without --root")
    parser.add_argument("--size", type=int, default=224, help="height and width of a crop")
    parser.add_argument("--files", type=int, help="time the first step on so many small files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        root, cache = options.root or Path(made) / "images", Path(made) / "cache"
        if options.files:
            first_step(options, root, cache)
            return
        if options.root is None:
            write_jpegs(root, options.images)
        compare(options, root, cache)


if __name__ == "__main__":
    main()
