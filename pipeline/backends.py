"""The backends, looked up by name and imported only when a job asks for one."""

import gc
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol

import numpy as np

from pipeline.errors import UserError
from pipeline.portable import PortableState
from pipeline.world import World

# A third backend is a third folder with the same files, and a line here.
BACKENDS = {"torch": "lightning_impl", "jax": "flax_impl"}

# torch computes on one device in each process; a process of jax holds all devices that it is given.
PROCESS_PER_DEVICE = {"torch"}


class Device(Protocol):
    """Where a backend computes: this process's share of all devices of the run."""

    description: str
    devices: int  # of the whole run

    def read(self, values: list[Any]) -> np.ndarray:
        """Values of steps `[values]` off the devices, summed over them: float64 `[steps, values]`."""

    def peak_memory_mb(self) -> float:
        """Highest memory so far in MB, of one device, or on a CPU of the process."""

    def highest(self, number: int) -> int:
        """The highest of a number over all processes of the run; all of them ask in the same order.

        Nobody waits for it: among several processes it is what they said when they asked last.
        """

    def wait_for_all(self) -> None:
        """Return when all processes of the run have come here."""


class Backend(Protocol):
    """What `<package>/backend.py` offers."""

    def prepare(self, config: Any, world: World) -> Device:
        """Set up devices, threads and precision, and join the other processes of the run.

        Raises `UserError` where they are not to be had.
        """

    def train(self, experiment: Any, device: Device) -> None:
        """Train to the end of the timetable, from scratch or from `experiment.resume`."""

    def test(
        self, experiment: Any, device: Device, checkpoint: Any
    ) -> tuple[Mapping[str, float], np.ndarray | None]:
        """Sums over the test set of the weights in a checkpoint, by the names of `metrics.SUMS`; and
        what they say of each sample of a classification, in order: float64 `[samples, values]`, the
        values being `predictions.COLUMNS`.
        """

    def export(
        self, experiment: Any, device: Device, checkpoint: Any
    ) -> tuple[PortableState, dict[str, Any]]:
        """A checkpoint's state, and what its recorder remembers, for another backend or a file."""

    def adopt(self, experiment: Any, device: Device, parcels: Sequence[Any]) -> None:
        """Write a run that comes from elsewhere as checkpoints in the experiment's folder."""

    def versions(self) -> dict[str, str]:
        """The versions of the libraries that decide the result."""


def load(name: str) -> Backend:
    """Import a backend.

    Raises:
        UserError: no backend has this name.
    """
    if name not in BACKENDS:
        raise UserError("backend", name, f"one of {', '.join(BACKENDS)}")
    collects = gc.isenabled()
    gc.disable()  # a fifth of the time would go into looking for garbage, of which there is none
    try:
        return import_module(f"{BACKENDS[name]}.backend")
    finally:
        if collects:
            gc.enable()
