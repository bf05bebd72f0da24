"""Conversion between Orbax's checkpoints and portable ones, which any backend can read."""

from dataclasses import replace

from flax_impl.checkpoints import read_checkpoint
from flax_impl.layers import Layout
from flax_impl.state import from_portable, shapes_of, to_portable
from flax_impl.training.train_state import TrainState
from pipeline.storage.checkpoints import Checkpoint, check_shapes
from pipeline.storage.portable_file import PortableCheckpoint
from pipeline.storage.portable_state import PortableState
from pipeline.storage.recorder_state import RecorderState


def export_checkpoint(
    checkpoint: Checkpoint, template: TrainState, layout: Layout
) -> tuple[PortableState, RecorderState]:
    """Read a checkpoint's portable state and its recorder's state; `template` is the state at step 0.

    Raises:
        BrokenCheckpoint: it is torn or corrupt.
    """
    content = read_checkpoint(checkpoint, template, layout)
    return to_portable(content["state"], layout), RecorderState.from_json(content["recorder"])


def import_checkpoint(
    portable: PortableCheckpoint, template: TrainState, layout: Layout, accumulate: int = 1
) -> TrainState:
    """Convert a portable checkpoint to a training state; `template` is the state at step 0."""
    check_shapes(portable.source, portable.state.shapes, shapes_of(layout))
    state = portable.state
    state = replace(state, buffers=state.buffers | state.counters(accumulate))
    return from_portable(state, template, layout)
