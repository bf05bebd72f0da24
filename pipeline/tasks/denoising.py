"""Denoising: the noise that was added to an image, as in DDPM (Ho et al. 2020)."""

from collections.abc import Mapping

import numpy as np

from pipeline.tasks.task import Shapes, Task

TIMES = 1000  # levels of noise


class Denoising(Task):
    """Mean squared error of the predicted noise, which has the shape of the image."""

    name = "denoising"
    targets = ()
    sums = ("loss",)
    noise = ("noise", "time")
    monitor = "loss"

    def draw(self, name: str, random: np.random.Generator, shapes: Shapes) -> np.ndarray:
        """Draw normal noise of an image's shape, or its level."""
        shape = shapes["image"]
        if name == "time":
            return random.integers(TIMES, size=shape[0])
        return random.standard_normal(shape, np.float32)

    def terms(self, shapes: Shapes) -> int:
        """Return the number of images."""
        return shapes["image"][0]

    def metrics(self, sums: Mapping[str, float], shapes: Shapes) -> dict[str, float]:
        """Return the loss."""
        return {"loss": sums["loss"] / self.terms(shapes)}

    def outputs_shape(self, shapes: Shapes) -> tuple[int | str, ...]:
        """Return the shape of the noise, channels last."""
        return shapes["noise"]


def kept_signal() -> np.ndarray:
    """Return the share of an image's variance that is left at each level: float64 [TIMES].

    It is the product of 1 - beta, with beta from 1e-4 to 0.02 in equal steps.
    """
    return np.cumprod(1 - np.linspace(1e-4, 0.02, TIMES))
