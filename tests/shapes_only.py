"""A device of torch that holds no values, in the place of a GPU: what reads from it is an error."""

from dataclasses import dataclass

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_impl.device import Device


@dataclass
class ShapesOnly(Device):
    """A device that holds no values: torch's `meta`."""

    free: int = 2**30

    @property
    def torch_device(self) -> torch.device:
        return torch.device("meta")

    def free_bytes(self) -> int:
        return self.free


class Copies(TorchDispatchMode):
    """Counts copies from the CPU to the device: those that wait for it, and those that do not."""

    def __init__(self):
        super().__init__()
        self.waiting, self.others = 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        names = ("aten::_to_copy", "aten::copy_")
        if (
            function.name() in names
            and made.device.type == "meta"
            and args[-1].device.type == "cpu"
        ):
            if (kwargs or {}).get("non_blocking"):
                self.others += 1
            else:
                self.waiting += 1
        return made
