"""Threefry, the counter-based generator of `jax.random`: the same bits from the same key."""

from typing import cast

import numpy as np
import torch

Key = tuple[torch.Tensor, torch.Tensor]  # two int32 scalars, read as unsigned
# That of a step is computed by NumPy, which takes a fifth of torch's time: int32 [1] each.
StepKey = tuple[np.ndarray, np.ndarray]

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry(key: Key, high: torch.Tensor | int, low: torch.Tensor | int) -> Key:
    """Threefry-2x32 of 20 rounds (Salmon et al. 2011), as jax.random computes it.

    `high` and `low` are the upper and lower words of the counters, int32.
    """
    schedule = (*key, key[0] ^ key[1] ^ 0x1BD11BDA)
    left, right = high + schedule[0], low + schedule[1]
    for index in range(5):
        for rotation in ROTATIONS[index % 2]:
            left = left + right
            # `>>` shifts in the sign bit, which the mask removes.
            right = (right << rotation) | ((right >> (32 - rotation)) & ((1 << rotation) - 1))
            right = left ^ right
        left = left + schedule[(index + 1) % 3]
        right = right + schedule[(index + 2) % 3] + (index + 1)
    return left, right


def fold_in(key: Key, number: int) -> Key:
    """Derive a new key from a key and a 32-bit number, as `jax.random.fold_in`."""
    return threefry(key, 0, signed(number))


def fold_in_numpy(key: StepKey, numbers: np.ndarray) -> StepKey:
    """Derive new keys from a key and 32-bit numbers, int32; `threefry` has but operators of both."""
    found = threefry(cast("Key", key), 0, cast("torch.Tensor", numbers))
    return cast("StepKey", found)


def draw_bits(key: Key, shape: torch.Size, device: torch.device, first: int = 0) -> torch.Tensor:
    """Random bits, int32 of the given shape, as `jax.random.bits` in uint32, from counter `first` on."""
    counters = torch.arange(first, first + shape.numel(), device=device)
    high, low = (counters >> 32).int(), counters.int()
    # A copy of so few bytes need not wait for the GPU, though their memory is not pinned.
    first_word, second_word = (word.to(device, non_blocking=True) for word in key)
    left, right = threefry((first_word, second_word), high, low)
    return (left ^ right).reshape(shape)


def word(number: int) -> torch.Tensor:
    """Store 32 unsigned bits as an int32 scalar."""
    return torch.tensor(signed(number), dtype=torch.int32)


def signed(number: int) -> int:
    """Read 32 unsigned bits as a signed number."""
    return number - (1 << 32) * (number >> 31)
