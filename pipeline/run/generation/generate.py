"""Images or sequences that a trained model generates, as its task says."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import numpy as np

from pipeline.data.dataset import Data
from pipeline.run.generation.decoding import LIKELIEST, Choice, answered, continued
from pipeline.run.generation.diffusion import denoise, to_pixels
from pipeline.tasks import Denoising

# A trained model, of NumPy arrays as it takes them, images with channels last.
Call = Callable[..., np.ndarray]


def images(call: Call, data: Data, count: int, seed: int = 0) -> np.ndarray:
    """Make images from noise, in the units of the data set: [count, height, width, channels]."""
    task, [name] = cast("Denoising", data.task), data.inputs[:1]
    shape = (count, *data.input_shape)
    made = denoise(call, task.kept_signal(), shape, seed)
    return to_pixels(made, data.moments.get(name), data.example.dtype)


def continuations(
    call: Call, data: Data, tokens: np.ndarray, new: int, choice: Choice = LIKELIEST
) -> np.ndarray:
    """Continue rows of tokens `[n, length]`: int64 [n, length + new].

    The model sees as many tokens as a sample of the data set has.
    """
    return continued(call, tokens, new, data.input_shape[0], choice)


def targets(
    call: Call, data: Data, sources: Sequence[np.ndarray], choice: Choice = LIKELIEST
) -> np.ndarray:
    """Write the targets of sources, which are what the model takes before: int64 [n, length]."""
    length = data.train.shapes()["target"][1]
    return answered(partial(call, *sources), len(sources[0]), length, choice)
