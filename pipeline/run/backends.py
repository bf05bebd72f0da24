"""The backends, looked up by name and imported only when a job asks for one."""

import atexit
import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, NamedTuple, Protocol, cast

import numpy as np

from pipeline.backend_specs import BACKENDS
from pipeline.config.experiment import Config
from pipeline.data.dataset import Split
from pipeline.devices.world import World
from pipeline.errors import UserError
from pipeline.storage.checkpoints import Checkpoint
from pipeline.storage.portable_file import PortableCheckpoint
from pipeline.storage.portable_state import PortableState
from pipeline.storage.recorder_state import Best, RecorderState


class Device(Protocol):
    """The devices of this process, as a backend uses them."""

    description: str
    world: World  # the processes of the run
    sharded: bool  # each device holds a shard of the model
    fallback: str  # why `accelerator=auto` takes the CPU of a machine with GPUs; empty otherwise

    @property
    def devices(self) -> int:
        """Number of devices of the whole run."""

    def read(self, values: list[Any]) -> np.ndarray:
        """Read the values of steps from the devices, summed over all devices: float64 `[steps, values]`."""

    def peak_memory_mb(self) -> float:
        """Return the peak memory in MB, of one device, or on a CPU of the process."""

    def lagged_max(self, number: int) -> int:
        """Return the maximum of a number over all processes of the run, without waiting for them.

        Among several processes it is the maximum of their previous calls. All call it in the same order.
        """

    def wait_for_all(self) -> None:
        """Block until all processes of the run have called this."""


class Tested(NamedTuple):
    """Findings of a backend in a test."""

    sums: Mapping[str, float]  # over the test set, by the names of `Task.sums`
    # What is kept of each sample, in order: float64 [samples, …]; see `storage.predictions`.
    predictions: Mapping[str, np.ndarray] = {}
    # The values that were tested, by canonical name; none unless `Task.samples` are to be made of them.
    weights: Mapping[str, np.ndarray] = {}


# Seconds of a training step by layer, forward and backward: a layer is a module of the model, by its
# canonical name, without the modules in it that are layers themselves.
LayerTimes = Mapping[str, tuple[float, float]]
LAYERS_ROOT = ""  # name of the model itself
LAYERS_REST = "rest"  # name of all that is no part of the model: batch, loss, update
LAYERS_UNNAMED = "unnamed"  # name of what the compiler made, and gave no name


Test = Callable[[Checkpoint], Tested]


class TrainedModel(Protocol):
    """A trained model as the users of its framework know it."""

    @property
    def native(self) -> Any:
        """The model: a `torch.nn.Module`, a linen module bound to its variables, or an NNX module."""

    def predict(self, split: Split) -> Any:
        """Return the outputs for raw samples, prepared as in an evaluation: NumPy `[samples, …]`."""

    def call(self, *inputs: np.ndarray) -> np.ndarray:
        """Return the outputs for inputs as the model takes them, but images with channels last."""


class Backend(Protocol):
    """Interface of `<package>/backend.py`."""

    def prepare(self, config: Config, world: World) -> Device:
        """Set up devices, threads and precision, and join the other processes of the run.

        Raises:
            UserError: a device is missing.
        """

    def train(self, experiment: Any, device: Device) -> None:
        """Train to the last step, from scratch or from `experiment.resume`."""

    def train_together(self, experiments: Sequence[Any], device: Device) -> list[Exception | Test]:
        """Train runs that `run_inputs.shape_of` says are alike, all at once.

        For each it returns the error that ended it, or a function that tests a checkpoint, as `test` does.
        """

    def test(
        self, experiment: Any, device: Device, checkpoint: Checkpoint | PortableCheckpoint
    ) -> Tested:
        """Test the weights of a checkpoint."""

    def inference(self, experiment: Any, device: Device) -> Callable[[], Mapping[str, float]]:
        """Return a function that infers the next batch of training samples, as an evaluation does.

        It waits for the result, and returns the sums over the batch by the names of `Task.sums`.
        """

    def layer_times(self, experiment: Any, device: Device) -> LayerTimes:
        """Return the times of layers in training steps, from a trace of the framework's profiler."""

    def read_best(self, checkpoint: Checkpoint) -> Best | None:
        """Read the best evaluation so far from a checkpoint."""

    def initial(self, experiment: Any, device: Device) -> PortableState:
        """Return the values at step 0 that a user's own model of this backend makes itself."""

    def export(
        self, experiment: Any, device: Device, checkpoint: Checkpoint
    ) -> tuple[PortableState, RecorderState]:
        """Return a checkpoint's state and its recorder's state, for another backend or a file."""

    def adopt(
        self, experiment: Any, device: Device, portables: Sequence[PortableCheckpoint]
    ) -> None:
        """Write a run of another source as checkpoints in the experiment's folder."""

    def trained_model(
        self, experiment: Any, portable: PortableCheckpoint, device: Any = None
    ) -> TrainedModel:
        """Return the model with a portable checkpoint's weights.

        It is on the device of a run, or outside a run on the backend's default.
        """

    def versions(self) -> dict[str, str]:
        """Return the versions of the libraries that decide the result."""


def load(name: str) -> Backend:
    """Import a backend."""
    if name not in BACKENDS:
        raise UserError("backend", name, f"one of {', '.join(BACKENDS)}")
    module, collects = f"{BACKENDS[name].package}.backend", gc.isenabled()
    is_new = module not in sys.modules
    gc.disable()  # garbage collection would take a fifth of the import time, and find nothing
    try:
        return cast(Backend, import_module(module))
    finally:
        if is_new:
            gc.freeze()  # imports stay; to look through them takes each full collection 0.25 s
            atexit.register(gc.unfreeze)  # else nanobind reports leaks
        if collects:
            gc.enable()
