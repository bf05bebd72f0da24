"""Inputs of the kinds of models, of odd sizes, drawn from a seed."""

from collections.abc import Callable

import numpy as np

VOCABULARY = 50
FIRST = 3  # id of a token that has no meaning of its own
END = 2  # id of the token that ends a sequence

Inputs = dict[str, np.ndarray]


def tokens(draw: np.random.Generator, *shape: int) -> np.ndarray:
    """Return ids of tokens; each sequence ends with the token for that."""
    ids = draw.integers(FIRST, VOCABULARY - 1, shape or (2, 7))
    ids[..., -1] = END
    return ids


def images(draw: np.random.Generator) -> np.ndarray:
    """Return images, channels first."""
    return draw.standard_normal((2, 3, 16, 16))


def _pairs(name: str, first: Callable[[np.random.Generator], np.ndarray]) -> Callable[..., Inputs]:
    def make(draw: np.random.Generator) -> Inputs:
        return {name: first(draw), "decoder_input_ids": tokens(draw, 2, 5)}

    return make


def waves(draw: np.random.Generator) -> np.ndarray:
    """Return sounds."""
    return draw.standard_normal((2, 130))


def spectra(draw: np.random.Generator) -> np.ndarray:
    """Return spectrograms."""
    return draw.standard_normal((2, 8, 20))


KINDS: dict[str, Callable[[np.random.Generator], Inputs]] = {
    "tokens": lambda draw: {"input_ids": tokens(draw)},
    "choices": lambda draw: {"input_ids": tokens(draw, 2, 3, 7)},
    "long_tokens": lambda draw: {"input_ids": tokens(draw, 2, 24)},
    "pairs": _pairs("input_ids", tokens),
    "images": lambda draw: {"pixel_values": images(draw)},
    "masked_images": lambda draw: {
        "pixel_values": images(draw), "bool_masked_pos": draw.integers(0, 2, (2, 16)).astype(bool),
    },
    "captions": lambda draw: {"input_ids": tokens(draw), "pixel_values": images(draw)},
    "described": _pairs("pixel_values", images),
    "waves": lambda draw: {"input_values": waves(draw)},
    "spoken": _pairs("inputs", waves),
    "spectra": lambda draw: {"input_features": spectra(draw)},
    "spectra_pairs": _pairs("input_features", spectra),
}  # fmt: skip
