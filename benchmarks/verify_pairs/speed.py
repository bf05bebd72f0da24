"""Seconds that the command needs for a verdict from a cold start, on pairs of larger models.

    python -m benchmarks.verify_pairs.speed [--pairs vit,resnet] [--repeats 2]

Pairs take turns, each with an empty cache of compiled programs. Nothing else should run: the seconds count
what the machine does for others, too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from statistics import median
from typing import TYPE_CHECKING

from pipeline.config.models import ResNet18Config, Stem, ViTConfig

if TYPE_CHECKING:  # each side imports its own framework alone
    from flax import linen
    from torch import nn

MODULE = "benchmarks.verify_pairs.speed"
OUTPUTS, BATCH = 10, 2
VIT = ViTConfig(depth=12, heads=3, width=192, patch=4)  # ViT-tiny, on patches of a small image
SIZES = {"vit": 32, "resnet": 64}  # of the images of each pair


def torch_vit() -> nn.Module:
    """Return the project's ViT-tiny in torch."""
    from lightning_impl.models import build_model

    return build_model(VIT, (SIZES["vit"], SIZES["vit"], 3), OUTPUTS)


def flax_vit() -> linen.Module:
    """Return the project's ViT-tiny in Flax."""
    from flax_impl.models import build_model

    return build_model(VIT, (SIZES["vit"], SIZES["vit"], 3), OUTPUTS)


def torch_resnet() -> nn.Module:
    """Return torchvision's ResNet-18."""
    from torchvision.models import resnet18

    return resnet18(num_classes=OUTPUTS)


def flax_resnet() -> linen.Module:
    """Return the project's ResNet-18 in Flax."""
    from flax_impl.models import build_model

    config = ResNet18Config(stem=Stem.imagenet)
    return build_model(config, (SIZES["resnet"], SIZES["resnet"], 3), OUTPUTS)


def command(pair: str) -> list[str]:
    """Return the arguments of Python that judge a pair."""
    size = SIZES[pair]
    sides = [f"{MODULE}:{side}_{pair}" for side in ("torch", "flax")]
    inputs = f"x=float32[{BATCH},3,{size},{size}] NCHW"
    return ["-m", "pipeline.verify", *sides, "--inputs", inputs]


def seconds(pair: str) -> float:
    """Judge a pair with nothing compiled before; return the duration.

    Raises:
        CalledProcessError: the two are not the same.
    """
    with tempfile.TemporaryDirectory() as cache:
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, *command(pair)],
            env=os.environ | {"TANDEM_CACHE": cache},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return time.perf_counter() - started


def main() -> None:
    """Print a row for each pair: the median of its seconds, and all of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", default=",".join(SIZES))
    parser.add_argument("--repeats", type=int, default=2)
    args = parser.parse_args()
    pairs = args.pairs.split(",")
    rounds = [[seconds(pair) for pair in pairs] for _ in range(args.repeats)]
    print("| pair | median s | each |", "|---|---|---|", sep="\n")
    for pair, found in zip(pairs, zip(*rounds, strict=True), strict=True):
        print(f"| {pair} | {median(found):.1f} | {', '.join(f'{one:.1f}' for one in found)} |")


if __name__ == "__main__":
    main()
