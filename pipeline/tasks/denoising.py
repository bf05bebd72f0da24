"""Denoising: the noise that was added to an image, as in DDPM (Ho et al. 2020)."""

from collections.abc import Mapping

import numpy as np

from pipeline.config.tasks import DenoisingConfig
from pipeline.tasks.task import Shapes, Task


class Denoising(Task):
    """Mean squared error of the predicted noise, which has the shape of the image.

    A model is called with the noisy images and their levels of noise, `time` `[batch]`.
    """

    name = "denoising"
    targets = ()
    needs = ("image [height, width, channels]",)
    takes = ("image",)
    adds = ("time",)
    sums = ("loss",)
    noise = ("noise", "time")
    monitor = "loss"

    def __init__(self, config: DenoisingConfig | None = None) -> None:
        super().__init__(config)
        self.config = config or DenoisingConfig()

    def kept_signal(self) -> np.ndarray:
        """Return the share of an image's variance that is left at each level: float64 [levels].

        It is the product of 1 - beta, with beta from the first to the last in equal steps.
        """
        config = self.config
        return np.cumprod(1 - np.linspace(config.first_beta, config.last_beta, config.levels))

    def draw(self, name: str, random: np.random.Generator, shapes: Shapes) -> np.ndarray:
        """Draw normal noise of an image's shape, or its level."""
        shape = shapes["image"]
        if name == "time":
            return random.integers(self.config.levels, size=shape[0])
        return random.standard_normal(shape, np.float32)

    def outputs(self, sizes: Mapping[str, int], shapes: Shapes) -> int:
        """Return the number of an image's channels."""
        return shapes["image"][-1]

    def terms(self, shapes: Shapes) -> int:
        """Return the number of images."""
        return shapes["image"][0]

    def metrics(self, sums: Mapping[str, float], shapes: Shapes) -> dict[str, float]:
        """Return the loss."""
        return {"loss": sums["loss"] / self.terms(shapes)}

    def outputs_shape(self, shapes: Shapes) -> tuple[int | str, ...]:
        """Return the shape of the noise, channels last."""
        return shapes["noise"]
