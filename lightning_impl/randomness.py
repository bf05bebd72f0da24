"""Dropout and drop-path with masks that depend only on the seed, step, micro-batch and layer."""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lightning_impl.threefry import Key, StepKey, draw_bits, fold_in_numpy, threefry
from pipeline.config.experiment import Config
from pipeline.config.train import Randomness
from pipeline.rng import key_words

_SIGN = -(2**31)
STEPS = 64  # whose keys are derived at once


def step_key(config: Config, step: int, part: int = 0, rank: int = 0) -> StepKey | None:
    """Key of one micro-batch after `step` updates; layers fold their names into it.

    None with `train.randomness=native`: torch's own generator is seeded instead. Its masks depend on the
    step alone, and with several devices also on the rank.
    """
    if config.train.randomness is Randomness.native:
        seed = key_words(config.seed, "dropout", step, part, *([rank] if rank else []))
        seed = seed[0] << 32 | seed[1]
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(seed)
        return None
    high, low = _keys_of_steps(config.seed, step // STEPS, part)
    at = slice(step % STEPS, step % STEPS + 1)
    return high[at], low[at]


@lru_cache(maxsize=128)
def _keys_of_steps(seed: int, block: int, part: int) -> StepKey:
    """Return the keys of a micro-batch in `STEPS` consecutive steps: int32 `[STEPS]` each."""
    key = np.array([key_words(seed, "dropout")], np.uint32).view(np.int32)
    steps = np.arange(block * STEPS, (block + 1) * STEPS).astype(np.uint32).view(np.int32)
    of_steps = fold_in_numpy((key[:, 0], key[:, 1]), steps)
    return fold_in_numpy(of_steps, np.array([part], np.int32))


def draw_mask(
    key: Key, rate: float | torch.Tensor, x: torch.Tensor, shape: torch.Size, rank: int
) -> torch.Tensor:
    """Draw what a layer keeps: each number with probability 1 - `rate`, on the device of its input.

    `key` is that of the layer.
    """
    first = rank * shape.numel()
    if isinstance(rate, torch.Tensor):  # of one of several runs that train at once
        least = (rate * (2**32 - 1)).round() - 2**31  # as `_least`
        return draw_bits(key, shape, x.device, first) ^ _SIGN >= least.int()
    least = _least(rate)
    if torch.compiler.is_compiling():
        return _draw_in_program(*key, shape, x.device, first, least)
    return draw_bits(key, shape, x.device, first) ^ _SIGN >= least


def _least(rate: float) -> int:
    """Return the smallest bits that are kept, as a signed number.

    Unsigned numbers stored as signed ones: flipping the sign bit gives them the same order.
    """
    return round(rate * (2**32 - 1)) - 2**31


@torch.library.custom_op(
    "tandem::draw_mask", mutates_args=(), tags=torch.Tag.cudagraph_unsafe
)  # the key is on the CPU
def _draw_in_program(
    high: torch.Tensor,
    low: torch.Tensor,
    shape: Sequence[int],
    device: torch.device,
    first: int,
    least: int,
) -> torch.Tensor:
    """Draw a mask in a compiled program, which calls this instead of compiling a generator for each layer.

    The generator is compiled once, for all shapes. `high` and `low` are the layer's key.
    """
    shape = torch.Size(shape)
    if first + (count := shape.numel()) > 2**31:  # counters of 64 bits
        return draw_bits((high, low), shape, device, first) ^ _SIGN >= least
    words = torch.tensor([int(high), int(low), first, least], dtype=torch.int32)
    with torch.no_grad():
        return _compiled_generator()(words.to(device), count).view(shape)


@_draw_in_program.register_fake
def _(
    high: torch.Tensor,
    low: torch.Tensor,
    shape: Sequence[int],
    device: torch.device,
    first: int,
    least: int,
) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.bool, device=device)


@cache
def _compiled_generator() -> Callable[[torch.Tensor, int], torch.Tensor]:
    return torch.compile(_draw_flat, dynamic=True)


def _draw_flat(words: torch.Tensor, count: int) -> torch.Tensor:
    """Draw a mask of one axis; `words` are the key, the first counter, and the smallest bits kept."""
    high, low, first, least = words.unbind()
    counters = first + torch.arange(count, dtype=torch.int32, device=words.device)
    left, right = threefry((high, low), torch.zeros_like(first), counters)
    return left ^ right ^ _SIGN >= least


class Dropout(nn.Module):
    """Zeros each number with probability `rate`, and scales the others by 1 / (1 - rate).

    Srivastava et al. 2014, in the "inverted" form of both libraries. The first axis is the batch's; each
    device draws its own rows of the mask.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.key: Key | None = (
            None  # of the step and the layer; with the device's rank: `LayerKeys`
        )
        self.rank = 0
        self.rate_of_run: torch.Tensor | None = None  # float64, if runs that differ train at once

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return `x` with some numbers at zero, in the same shape."""
        if not self.training or self.rate == 0:
            return x
        shape = self.mask_shape(x)
        if self.key is None:
            whole = shape == x.shape
            return F.dropout(x, self.rate) if whole else x * F.dropout(x.new_ones(shape), self.rate)
        if self.rate_of_run is not None:
            kept = draw_mask(self.key, self.rate_of_run, x, shape, self.rank)
            return torch.where(kept, x / (1 - self.rate_of_run).to(x.dtype), torch.zeros_like(x))
        kept = draw_mask(self.key, self.rate, x, shape, self.rank)
        return torch.where(kept, x / (1 - self.rate), torch.zeros_like(x))

    def mask_shape(self, x: torch.Tensor) -> torch.Size:
        """One draw for each number."""
        return x.shape


class DropPath(Dropout):
    """Zeros whole samples of a residual branch (stochastic depth, Huang et al. 2016)."""

    def mask_shape(self, x: torch.Tensor) -> torch.Size:
        """One draw for each sample."""
        return torch.Size((len(x),) + (1,) * (x.ndim - 1))
