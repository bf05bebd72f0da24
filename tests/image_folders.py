"""Folders of small image files, made by tests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int, height: int, width: int, mode: str = "RGB") -> Image.Image:
    """An image of smooth random colours."""
    corners = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    made = Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC)
    return made.convert(mode)


def write_images(
    root: Path, counts: dict[str, int], size: Callable[[int], tuple[int, int]] | None = None
) -> Path:
    """Write so many images of each class into sub-folders; JPEG and PNG by turns."""
    number = 0
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            height, width = size(number) if size else (20 + number % 7, 34 - number % 11)
            suffix = ("jpg", "png")[index % 2]
            picture(number, height, width).save(root / name / f"{index:02d}.{suffix}")
            number += 1
    return root
