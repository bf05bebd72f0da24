"""Samples of a split, on the device or memory-mapped."""

import warnings

import numpy as np
import torch

from lightning_impl.device import Device
from pipeline.data.batch_plan import BatchPlan
from pipeline.data.dataset import Split

# Splits of up to this size together are kept on a CPU; larger ones stay memory-mapped. On a GPU they may
# take this part of its memory.
RESIDENT_BYTES = 4 * 2**30
RESIDENT_PART = 1 / 4

Batch = dict[str, torch.Tensor]  # the fields by name


class Samples:
    """A split, and the constants that prepare its batches on the device."""

    def __init__(self, split: Split, plan: BatchPlan, device: Device) -> None:
        self.device, self.dtype, self._send = device.torch_device, device.dtype, device.send
        # Fields that share an array share a tensor.
        tensors = {id(array): _as_tensor(array) for array in split.arrays.values()}
        if is_resident(split, plan, device):
            tensors = {key: t.to(self.device, self._type_of(t)) for key, t in tensors.items()}
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
        """Return a field on the device; integers keep their own, small type.

        A field of the CPU is sent without waiting for the device, in its type there: to change it on the way
        would wait.
        """
        field = field.to(dtype=self._type_of(field))
        return field if field.device == self.device else self._send(field)

    def positions(self, indices: np.ndarray, field: torch.Tensor) -> torch.Tensor:
        """Return indices of samples where a field is."""
        chosen = torch.from_numpy(indices)
        return chosen if field.device == chosen.device else self._send(chosen)

    def _type_of(self, field: torch.Tensor) -> torch.dtype:
        return self.dtype if field.is_floating_point() else field.dtype


def is_resident(split: Split, plan: BatchPlan, device: Device) -> bool:
    """Return whether a split is kept on the device: if it fits there beside all splits of the run."""
    free, data = device.free_bytes(), plan.data
    most = RESIDENT_BYTES if free is None else RESIDENT_PART * free
    return split.bytes_beside(data.train, data.val, data.test) <= most


def _as_tensor(array: np.ndarray) -> torch.Tensor:
    """Tensor that shares the array's memory; nothing writes to it, so a read-only map is safe.

    torch warns of one; JAX copies.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
