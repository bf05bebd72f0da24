"""Order of samples: a permutation that is computed position by position, from a key."""

import math
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import overload

import numpy as np

from pipeline.rng import random_keys, random_words

ROUNDS = (
    16  # even all 720 orders of six samples are equally likely; more change nothing that is seen
)
BLOCK = 4096  # positions computed together: as fast as reading a stored permutation, and 32 KB

MANY = 2**18  # positions of a long part computed together


@dataclass(frozen=True)
class SampleOrder:
    """A permutation of `range(size)`, keyed by (seed, purpose), or a slice of it; no part of it is stored.

    It is the generalised Feistel cipher of Black and Rogaway ("Ciphers with arbitrary finite domains", 2002):
    a number is a pair of a digit below a and one below b, with the least a·b >= size and a close to b, and
    by turns one digit is shifted by a random function of the other. A result outside the range is mapped
    again until it is inside. Integers of 64 bits wrap everywhere alike, so it is the same on all machines.
    """

    size: int
    seed: int
    purpose: tuple[str | int, ...]
    part: range | None = None  # positions; None for all
    left_out: range = range(0)  # positions of the whole permutation that are not counted

    @property
    def positions(self) -> range:
        """Positions in the permutation without what is left out."""
        return range(self.size - len(self.left_out)) if self.part is None else self.part

    def without(self, positions: range) -> "SampleOrder":
        """Return a whole permutation without some of its samples, which follow one another."""
        return replace(self, left_out=positions)

    def __len__(self) -> int:
        return len(self.positions)

    @overload
    def __getitem__(self, positions: slice) -> "SampleOrder": ...
    @overload
    def __getitem__(self, positions: np.ndarray) -> np.ndarray: ...
    def __getitem__(self, positions: slice | np.ndarray) -> "SampleOrder | np.ndarray":
        """Return a contiguous part, or the samples at some positions, both int64 of any shape."""
        if isinstance(positions, slice):
            return replace(self, part=self.positions[positions])
        if self.size < 2:
            return np.zeros_like(positions, np.int64)
        shifted = positions.astype(np.uint64).ravel() + np.uint64(self.positions.start)
        skipped = np.uint64(len(self.left_out))
        shifted += skipped * (shifted >= np.uint64(self.left_out.start))
        samples = self._mapped(shifted)
        while (outside := np.flatnonzero(samples >= np.uint64(self.size))).size:
            samples[outside] = self._mapped(samples[outside])
        return samples.astype(np.int64).reshape(positions.shape)

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        """All samples, in memory: int64 [n]."""
        count = len(self)
        blocks = range(0, count, MANY)
        parts = [self[np.arange(first, min(first + MANY, count))] for first in blocks]
        return np.concatenate([np.zeros(0, np.int64), *parts]).astype(dtype or np.int64, copy=False)

    @cached_property
    def _sides(self) -> tuple[int, int]:
        """Ranges of the two digits."""
        first = math.isqrt(self.size - 1) + 1
        return first, -(-self.size // first)

    def _mapped(self, numbers: np.ndarray) -> np.ndarray:
        """Permute numbers below the product of the two sides."""
        sides = tuple(map(np.uint64, self._sides))
        digits = np.divmod(numbers, sides[1])
        for turn, key in enumerate(random_keys(ROUNDS, self.seed, *self.purpose)):
            moved, side, other = digits[turn % 2], sides[turn % 2], digits[1 - turn % 2]
            moved += bounded(random_words(key, other), side)
            moved -= side * (moved >= side)
        return digits[0] * sides[1] + digits[1]


def bounded(words: np.ndarray, bound: np.uint64 | np.ndarray) -> np.ndarray:
    """Map random 64-bit words to integers from 0 to below `bound`, at most 2^32: all uint64."""
    return ((words >> np.uint64(32)) * bound) >> np.uint64(32)


def epoch_order(seed: int, epoch: int, size: int, first: int, last: int) -> np.ndarray:
    """Return the samples at the positions from `first` to before `last` of an epoch: int64."""
    start = first // BLOCK
    blocks = [_block(seed, epoch, size, block) for block in range(start, -(-last // BLOCK))]
    joined = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    return joined[first - start * BLOCK : last - start * BLOCK].copy()


# Steps follow one another, so a block serves many; a batch may need several, and two epochs meet.
@lru_cache(maxsize=64)
def _block(seed: int, epoch: int, size: int, block: int) -> np.ndarray:
    positions = np.arange(block * BLOCK, min(size, (block + 1) * BLOCK))
    samples = SampleOrder(size, seed, ("order", epoch))[positions]
    samples.flags.writeable = False
    return samples
