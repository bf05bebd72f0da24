"""Checkpoints as Orbax writes them: a folder for each step, whole or not there at all."""

import errno
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from flax_impl.layers import Layout
from flax_impl.sharding import place, whole
from flax_impl.state import shapes_of
from flax_impl.step import TrainState
from pipeline.checkpoints import BrokenCheckpoint, Checkpoint, check_shapes
from pipeline.recorder import Recorder

KEPT = 2  # newest checkpoints: should one turn out broken, there is one before it
STEP_DIGITS = 6  # of a step's folder name, at least


def _without_stragglers(tell: Callable[[Any], None]) -> Callable[[Any], None]:
    """How Python tells of an error that nobody can catch, but for those of Orbax's stragglers.

    Of many arrays whose reading or writing fails at once Orbax hears of one, raises that and closes
    its loop; what the others say to the closed loop would be printed as tracebacks.
    """

    def hook(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            tell(unraisable)

    return hook


sys.unraisablehook = _without_stragglers(sys.unraisablehook)


class BestCheckpoint(policies.PreservationPolicy):
    """Keeps the best checkpoint; what is best, the recorder decides.

    Args:
        recorder: that has just judged the evaluation.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def should_preserve(
        self, checkpoints: Sequence[Any], *, context: policies.PreservationContext
    ) -> Sequence[bool]:
        """Which checkpoints to keep."""
        best = self.recorder.best
        return [best is not None and info.step == best["step"] for info in checkpoints]


class Checkpoints:
    """The checkpoints of a run under way; a context manager, since saving goes on in the background.

    Args:
        folder: for the steps.
        recorder: whose memory goes into each.
        layout: of the model.
    """

    def __init__(self, folder: Path, recorder: Recorder, layout: Layout) -> None:
        self.recorder, self.layout = recorder, layout
        keep = policies.AnyPreservationPolicy([policies.LatestN(KEPT), BestCheckpoint(recorder)])
        self.manager = ocp.CheckpointManager(
            folder.absolute(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=keep,
                step_format_fixed_length=STEP_DIGITS,
                cleanup_tmp_directories=True,
            ),
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.manager.close()

    def save(self, state: TrainState) -> None:
        """Keep the state of a step; the device's arrays may be donated afterwards.

        Raises:
            Diverged: the state is not worth keeping.
            OSError: the disk has no room for it.
        """
        step = int(state.step)
        _require_space(self.manager.directory, sum(leaf.nbytes for leaf in jax.tree.leaves(state)))
        memory = {
            "recorder": self.recorder.state(step),
            "shapes": shapes_of(self.layout),
            "dtype": jax.tree.leaves(state.params)[0].dtype.name,
            "checksum": _checksum(state),
        }
        if step in self.manager.all_steps():  # found broken on resuming, and passed over
            self.manager.delete(step)
        self.manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(state), memory=ocp.args.JsonSave(memory)
            ),
        )


def read_checkpoint(checkpoint: Checkpoint, template: TrainState, layout: Layout) -> dict[str, Any]:
    """A checkpoint's content: the state, on the devices, and the recorder's memory.

    Args:
        checkpoint: on disk.
        template: the experiment's own state, whose shapes the state must have.
        layout: of the model.

    Raises:
        BrokenCheckpoint: it is torn or corrupt.
        UserError: it is of another model.
    """
    options = ocp.CheckpointManagerOptions(step_format_fixed_length=STEP_DIGITS, create=False)
    with ocp.CheckpointManager(checkpoint.path.parent.absolute(), options=options) as manager:
        memory = _restore(manager, checkpoint, memory=ocp.args.JsonRestore())["memory"]
        check_shapes(checkpoint.path, memory["shapes"], shapes_of(layout))
        saved = jax.tree.map(partial(_as_saved, memory.get("dtype")), template)
        state = _restore(manager, checkpoint, state=ocp.args.StandardRestore(saved))["state"]
    if _checksum(state) != memory["checksum"]:
        raise BrokenCheckpoint("its arrays are not those that were saved")
    return {"state": jax.tree.map(_like, state, template), "recorder": memory["recorder"]}


def _as_saved(dtype: str | None, leaf: jax.Array) -> np.ndarray:
    """What Orbax is to read in a leaf's place: NumPy arrays, in the number type of the saving run."""
    floating = dtype is not None and jnp.issubdtype(leaf.dtype, jnp.floating)
    return np.broadcast_to(np.zeros((), dtype if floating else leaf.dtype), leaf.shape)


def _like(array: np.ndarray, leaf: jax.Array) -> jax.Array:
    """An array in the number type and on the devices of a leaf."""
    return place(np.asarray(array, leaf.dtype), leaf.sharding)


def _restore(manager: ocp.CheckpointManager, checkpoint: Checkpoint, **items: Any) -> Any:
    """Read some of a checkpoint's items, as Orbax keeps them apart.

    Raises:
        BrokenCheckpoint: they are torn or corrupt.
    """
    try:
        return manager.restore(checkpoint.step, args=ocp.args.Composite(**items))
    except Exception as error:  # Orbax raises many kinds for a damaged folder
        raise BrokenCheckpoint(str(error).partition("\n")[0]) from error


def _require_space(folder: Path, needed: int) -> None:
    """Ask before the arrays are written, rather than leave half of them.

    Raises:
        OSError: fewer than `needed` bytes are free.
    """
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _checksum(state: TrainState) -> int:
    """CRC-32 of all arrays; Orbax reads a flipped bit in its files without complaint."""
    total = 0
    for leaf in jax.tree.leaves(state):  # one by one: shared ones are put together for it
        total = crc32(np.ascontiguousarray(whole(leaf)), total)
    return total
