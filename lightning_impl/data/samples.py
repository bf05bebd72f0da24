"""Samples of a split, on the device or memory-mapped."""

import warnings

import numpy as np
import torch

from lightning_impl.device import Device
from pipeline.data.batch_plan import BatchPlan
from pipeline.data.dataset import Split

# Arrays up to this size are kept on the device; larger ones stay memory-mapped.
RESIDENT_BYTES = 4 * 2**30

Batch = dict[str, torch.Tensor]  # the fields by name


class Samples:
    """A split, and the constants that prepare its batches on the device."""

    def __init__(self, split: Split, plan: BatchPlan, device: Device) -> None:
        self.device, self.dtype = device.torch_device, device.dtype
        # Fields that share an array share a tensor.
        tensors = {id(array): _as_tensor(array) for array in split.arrays.values()}
        if split.nbytes <= RESIDENT_BYTES:
            tensors = {key: self.placed(tensor) for key, tensor in tensors.items()}
        self.fields = {name: tensors[id(array)] for name, array in split.arrays.items()}
        self.moments = {
            name: tuple(
                torch.as_tensor(array, dtype=device.dtype, device=self.device)
                for array in (moments.mean, 1 / moments.std)
            )
            for name, moments in plan.data.moments.items()
        }
        self.augmented, self.padding = plan.augmented, plan.padding

    def placed(self, field: torch.Tensor) -> torch.Tensor:
        """Return a field on the device; integers keep their own, small type."""
        return field.to(self.device, self.dtype if field.is_floating_point() else None)


def _as_tensor(array: np.ndarray) -> torch.Tensor:
    """Tensor that shares the array's memory; nothing writes to it, so a read-only map is safe.

    torch warns of one; JAX copies.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
