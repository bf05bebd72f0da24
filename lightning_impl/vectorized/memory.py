"""Bytes that a pass of a model keeps for its gradient.

Only here: a compiled program of JAX knows what it takes.
"""

from collections.abc import Callable

import torch
from torch.autograd.graph import saved_tensors_hooks


def bytes_kept(forward: Callable[[], object]) -> int:
    """Return the bytes of all tensors that a pass would keep; it keeps none."""
    kept: dict[int, torch.UntypedStorage] = {}  # by address, each until all are counted

    def note(tensor: torch.Tensor) -> None:
        """Note what the graph would keep, outside of it: a cycle through it would never be freed."""
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage

    with saved_tensors_hooks(note, lambda _: torch.empty(0)):
        forward()
    return sum(storage.nbytes() for storage in kept.values())
