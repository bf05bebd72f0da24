"""Checkpoints in and out: between Orbax's steps and parcels that any backend can read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flax_impl.checkpoints import Checkpoints, read_checkpoint
from flax_impl.device import Device
from flax_impl.layers import Layout
from flax_impl.state import from_portable, shapes_of, to_portable
from flax_impl.step import TrainState
from pipeline.checkpoints import FOLDER, Checkpoint, check_shapes
from pipeline.experiment import Experiment
from pipeline.parcels import Parcel
from pipeline.portable import PortableState


def pack(
    checkpoint: Checkpoint, template: TrainState, layout: Layout
) -> tuple[PortableState, dict[str, Any]]:
    """A checkpoint's state and the recorder's memory.

    Args:
        checkpoint: on disk.
        template: the experiment's own state, at step 0.
        layout: of the model.

    Raises:
        BrokenCheckpoint: it is torn or corrupt.
        UserError: it is of another model.
    """
    content = read_checkpoint(checkpoint, template, layout)
    return to_portable(content["state"], layout), content["recorder"]


def unpack(
    parcels: Sequence[Parcel],
    experiment: Experiment,
    device: Device,
    template: TrainState,
    layout: Layout,
) -> None:
    """Write parcels as checkpoints in the experiment's folder.

    Args:
        parcels: what the checkpoints will hold, in the order of their steps.
        experiment: whose folder it is.
        device: of the experiment.
        template: the experiment's own state, at step 0.
        layout: of the model.

    Raises:
        UserError: a parcel is of another model.
    """
    for parcel in parcels:
        check_shapes(parcel.source, parcel.state.shapes, shapes_of(layout))
        folder, courier = experiment.folder / FOLDER, Courier(parcel)
        with Checkpoints(folder, courier, layout) as checkpoints:
            checkpoints.save(from_portable(parcel.state, template, layout))


@dataclass(frozen=True)
class Courier:
    """Stands in for the recorder: what a store of checkpoints asks of it, a parcel knows.

    Args:
        parcel: at its step.
    """

    parcel: Parcel

    @property
    def best(self) -> dict[str, Any] | None:
        """Of the evaluations so far."""
        return self.parcel.memory["best"]

    def state(self, step: int) -> dict[str, Any]:
        """What goes into the checkpoint."""
        return self.parcel.memory
