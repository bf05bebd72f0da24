"""Dropout and drop-path, whose masks depend on what they are for: (seed, step, part, layer)."""

from zlib import crc32

import torch
import torch.nn.functional as F
from torch import nn

from pipeline.config import Config, Randomness
from pipeline.draws import key_words

Key = tuple[torch.Tensor, torch.Tensor]  # two int32 scalars, read as unsigned

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def step_key(config: Config, step: int, part: int = 0, rank: int = 0) -> Key | None:
    """The key of one part of the batch after `step` updates; layers fold their names into it.

    With `train.randomness=native` there is none: torch's own generator is seeded instead, so that
    masks follow from the step alone, and on several devices from the rank.
    """
    words = key_words(config.seed, "dropout")
    if config.train.randomness is Randomness.native:
        seed = key_words(config.seed, "dropout", step, part, *([rank] if rank else []))
        seed = seed[0] << 32 | seed[1]
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(seed)
        return None
    return fold_in(fold_in((_word(words[0]), _word(words[1])), step), part)


class Dropout(nn.Module):
    """Zeros each number with probability `rate`, and scales the others by 1 / (1 - rate).

    Srivastava et al. 2014, in the "inverted" form of both libraries. The first axis is the batch's: of
    a batch that several devices share each draws its own rows of the mask.

    Args:
        rate: of the numbers, or of whatever shares one draw.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        self.path = ""  # canonical name, the step's key, and the device's rank: `use_key` sets them
        self.key: Key | None = None
        self.rank = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape to the same."""
        if not self.training or self.rate == 0:
            return x
        shape = self.mask_shape(x)
        if self.key is None:
            whole = shape == x.shape
            return F.dropout(x, self.rate) if whole else x * F.dropout(x.new_ones(shape), self.rate)
        first = self.rank * shape.numel()
        drawn = bits(fold_in(self.key, crc32(self.path.encode())), shape, x.device, first)
        # Unsigned numbers in signed ones: with the sign bit flipped they are in the same order.
        kept = drawn ^ _SIGN >= round(self.rate * (2**32 - 1)) - 2**31
        return torch.where(kept, x / (1 - self.rate), torch.zeros_like(x))

    def mask_shape(self, x: torch.Tensor) -> torch.Size:
        """One draw for each number."""
        return x.shape


class DropPath(Dropout):
    """Zeros whole samples of a residual branch (stochastic depth, Huang et al. 2016)."""

    def mask_shape(self, x: torch.Tensor) -> torch.Size:
        """One draw for each sample."""
        return torch.Size((len(x),) + (1,) * (x.ndim - 1))


def use_key(model: nn.Module, key: Key | None, rank: int = 0) -> None:
    """Give a step's key to the layers that draw. Only here: Flax hands keys down itself."""
    for name, module in model.named_modules():
        if isinstance(module, Dropout):
            module.path, module.key, module.rank = name, key, rank


def threefry(key: Key, high: torch.Tensor, low: torch.Tensor) -> Key:
    """Threefry-2x32 of 20 rounds (Salmon et al. 2011), as jax.random computes it.

    Only here, with `fold_in` and `bits`: torch has no counter-based generator.

    Args:
        key: two words.
        high: upper words of the counters, int32.
        low: lower words, the same shape.
    """
    schedule = (*key, key[0] ^ key[1] ^ 0x1BD11BDA)
    left, right = high + schedule[0], low + schedule[1]
    for index in range(5):
        for bits in ROTATIONS[index % 2]:
            left = left + right
            # `>>` keeps the sign: what it shifts in is masked away.
            right = (right << bits) | ((right >> (32 - bits)) & ((1 << bits) - 1))
            right = left ^ right
        left = left + schedule[(index + 1) % 3]
        right = right + schedule[(index + 2) % 3] + (index + 1)
    return left, right


def fold_in(key: Key, number: int) -> Key:
    """A new key of a key and a number of 32 bits, as `jax.random.fold_in`."""
    return threefry(key, _word(0), _word(number))


def bits(key: Key, shape: torch.Size, device: torch.device, first: int = 0) -> torch.Tensor:
    """Random bits, int32 of the given shape, as `jax.random.bits` in uint32.

    Args:
        key: two words.
        shape: of the result.
        device: to draw on.
        first: counter; so many draws come before these.
    """
    counters = torch.arange(first, first + shape.numel(), device=device)
    high, low = (counters >> 32).int(), counters.int()
    left, right = threefry(tuple(word.to(device) for word in key), high, low)
    return (left ^ right).reshape(shape)


def _word(number: int) -> torch.Tensor:
    """32 unsigned bits as an int32 scalar."""
    return torch.tensor(number - (1 << 32) * (number >> 31), dtype=torch.int32)


_SIGN = -(2**31)
