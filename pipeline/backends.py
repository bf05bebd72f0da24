"""The backends, looked up by name and imported only when a job asks for one."""

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol

from pipeline.errors import UserError
from pipeline.portable import PortableState

# A third backend is a third folder with the same files, and a line here.
BACKENDS = {"torch": "lightning_impl", "jax": "flax_impl"}


class Device(Protocol):
    """Where a backend computes."""

    description: str


class Backend(Protocol):
    """What `<package>/backend.py` offers."""

    def prepare(self, config: Any) -> Device:
        """Set up the device, threads and precision; raises `UserError` where they are not to be had."""

    def train(self, experiment: Any, device: Device) -> None:
        """Train to the end of the timetable, from scratch or from `experiment.resume`."""

    def test(self, experiment: Any, device: Device, checkpoint: Any) -> Mapping[str, float]:
        """Sums over the test set of the weights in a checkpoint."""

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
    return import_module(f"{BACKENDS[name]}.backend")
