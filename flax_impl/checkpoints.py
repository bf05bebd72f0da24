"""Checkpoints as Orbax writes them: a folder for each step, each written atomically.

This is Orbax's API before 1.0. Its v1, experimental in 0.12, reads these checkpoints bit for bit, but blocks
the loop a third longer to save a small state, and prints tracebacks when arrays are torn.
"""

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from flax_impl.device import PyTree
from flax_impl.layers import Layout
from flax_impl.sharding import whole
from flax_impl.state import place_like, shapes_of
from flax_impl.training.train_state import TrainState
from pipeline.run.recording.recorder import Recorder
from pipeline.storage.checkpoints import (
    BrokenCheckpoint,
    Checkpoint,
    check_run,
    check_run_folder,
    check_shapes,
    run_signature,
)
from pipeline.storage.recorder_state import Best, RecorderState

KEPT = 2  # newest checkpoints: if the last is broken, the one before it remains
STEP_DIGITS = 6  # minimum number of digits in a step's folder name


def _without_stragglers(tell: Callable[[Any], None], unraisable: Any) -> None:
    """Pass an error to Python's hook for unraisable ones, unless it is of a pending task of Orbax.

    If several reads or writes fail at once, Orbax raises the first error and closes its event loop. Python
    would print the others as tracebacks.
    """
    if str(unraisable.exc_value) != "Event loop is closed":
        tell(unraisable)


sys.unraisablehook = partial(_without_stragglers, sys.unraisablehook)


class BestCheckpoint(policies.PreservationPolicy):
    """Keeps the checkpoint of the recorder's best evaluation."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    def should_preserve(
        self, checkpoints: Sequence[Any], *, context: policies.PreservationContext
    ) -> Sequence[bool]:
        """Return True for each checkpoint to keep."""
        best = self.recorder.best
        return [best is not None and info.step == best.step for info in checkpoints]


class Checkpoints:
    """Keeps the checkpoints of a run; a context manager, since saving continues in the background."""

    def __init__(self, folder: Path, recorder: Recorder, layout: Layout) -> None:
        self.recorder, self.layout, self.run = recorder, layout, folder.parent
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

    def __exit__(self, *error: object) -> None:
        self.manager.close()

    def save(self, state: TrainState, recorder_state: RecorderState | None = None) -> None:
        """Save the state of a step; the device's arrays may be donated afterwards.

        With `recorder_state=None` the recorder's current state is saved beside it.

        Raises:
            Diverged: the state is not finite.
            OSError: too little disk space is free; checked before an array is written.
        """
        step = int(state.step)
        check_run_folder(self.run)
        needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        if shutil.disk_usage(self.run).free < needed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.run))
        memory = {
            "recorder": (recorder_state or self.recorder.state(step)).to_json(),
            "shapes": shapes_of(self.layout),
            "dtype": jax.tree.leaves(state.params)[0].dtype.name,
            **_checksums(state),
            "signature": run_signature(self.run),
        }
        memory["memory_checksum"] = _json_checksum(memory)
        if step in self.manager.all_steps():  # broken, and skipped when the run resumed
            self.manager.delete(step)
        items = {"state": ocp.args.StandardSave(state), "memory": ocp.args.JsonSave(memory)}
        self.manager.save(step, args=ocp.args.Composite(**items))


def read_checkpoint(checkpoint: Checkpoint, template: TrainState, layout: Layout) -> dict[str, Any]:
    """Read the state, on the devices, and the recorder's state; `template` gives the expected shapes.

    Raises:
        BrokenCheckpoint: it is torn or corrupt.
    """
    with _manager_of(checkpoint) as manager:
        memory = _read_memory(manager, checkpoint)
        check_shapes(checkpoint.path, memory["shapes"], shapes_of(layout))
        saved = jax.tree.map(partial(_as_saved, memory.get("dtype")), template)
        state = _restore(manager, checkpoint, state=ocp.args.StandardRestore(saved))["state"]
    if any(memory[name] != CHECKSUMS[name](state) for name in CHECKSUMS if name in memory):
        raise BrokenCheckpoint("its arrays are not those that were saved")
    return {"state": jax.tree.map(place_like, state, template), "recorder": memory["recorder"]}


def read_best(checkpoint: Checkpoint) -> Best | None:
    """Read the best evaluation that the recorder knew; it raises as `read_checkpoint` does."""
    with _manager_of(checkpoint) as manager:
        memory = _read_memory(manager, checkpoint)
    return RecorderState.from_json(memory["recorder"]).best


def _manager_of(checkpoint: Checkpoint) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(step_format_fixed_length=STEP_DIGITS, create=False)
    return ocp.CheckpointManager(checkpoint.path.parent.absolute(), options=options)


def _read_memory(manager: ocp.CheckpointManager, checkpoint: Checkpoint) -> dict[str, Any]:
    """Read the metadata beside the arrays."""
    memory = _restore(manager, checkpoint, memory=ocp.args.JsonRestore())["memory"]
    # Checkpoints of earlier versions have no checksum of the metadata.
    is_whole = isinstance(memory, dict) and {"recorder", "shapes"} <= memory.keys()
    is_whole = is_whole and any(name in memory for name in CHECKSUMS)
    checksum = memory.get("memory_checksum") if is_whole else None
    if not is_whole or checksum not in (None, _json_checksum(memory)):
        raise BrokenCheckpoint("what lies beside its arrays is not what was saved")
    check_run(checkpoint, memory.get("signature"))
    return memory


def _as_saved(dtype: str | None, leaf: jax.Array) -> np.ndarray:
    """NumPy array of a leaf's shape, in the dtype of the saved run: a target for Orbax to restore."""
    floating = dtype is not None and jnp.issubdtype(leaf.dtype, jnp.floating)
    return np.broadcast_to(np.zeros((), dtype if floating else leaf.dtype), leaf.shape)


def _restore(manager: ocp.CheckpointManager, checkpoint: Checkpoint, **items: Any) -> Any:
    """Read some of a checkpoint's items, which Orbax stores separately."""
    try:
        return manager.restore(checkpoint.step, args=ocp.args.Composite(**items))
    except Exception as error:  # Orbax raises many kinds for a damaged folder
        raise BrokenCheckpoint(str(error).partition("\n")[0]) from error


def _json_checksum(memory: dict[str, Any]) -> int:
    """CRC-32 of the metadata, without its own checksum."""
    rest = {key: value for key, value in memory.items() if key != "memory_checksum"}
    return crc32(json.dumps(rest, sort_keys=True).encode())


def _checksums(state: TrainState) -> dict[str, int]:
    """Checksum of all arrays; Orbax does not notice a flipped bit in its files.

    A GPU's arrays are summed where they are: to copy them to the host would take a second for each GB.
    """
    platform = next(iter(jax.tree.leaves(state.params)[0].devices())).platform
    name = "checksum" if platform == "cpu" else "device_checksum"
    return {name: CHECKSUMS[name](state)}


def _crc(state: PyTree) -> int:
    """CRC-32 of all arrays, on the host."""
    total = 0
    for leaf in jax.tree.leaves(state):  # one by one: sharded arrays are gathered for it
        total = crc32(np.ascontiguousarray(whole(leaf)).data, total)
    return total


def _device_checksum(state: PyTree) -> int:
    """CRC-32 of a sum for each array, modulo 2³², of its words, each times an odd number of its own.

    No flipped bit leaves such a sum as it was. Computed where the arrays are; collective if they are sharded.
    """
    sums = [_sum_words(_words(leaf)) for leaf in jax.tree.leaves(state)]
    return crc32(np.array(jax.device_get(sums), np.uint32).data)


def _words(leaf: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
    """Return an array of the host as unsigned integers of at most 32 bits, others as they are.

    JAX would read float64 as float32 in a run of that precision.
    """
    if isinstance(leaf, jax.Array):
        return leaf
    size = leaf.dtype.itemsize
    flat = np.ascontiguousarray(leaf).reshape(-1).view(f"uint{8 * min(4, size)}")
    return flat.reshape((*leaf.shape, *[size // 4] * (size > 4)))


@jax.jit
def _sum_words(array: jax.Array) -> jax.Array:
    """Sum the words of an array; those of one that is sharded where they are."""
    if array.dtype == bool:
        array = array.astype(jnp.uint8)
    word = jnp.dtype(f"uint{8 * min(4, array.dtype.itemsize)}")
    words = jax.lax.bitcast_convert_type(array, word).astype(jnp.uint32)
    factor = jnp.ones((), jnp.uint32)
    for axis, length in enumerate(words.shape):
        places = jnp.arange(length, dtype=jnp.uint32).reshape(-1, *[1] * (words.ndim - axis - 1))
        factor = factor * jnp.uint32(0x9E3779B1) + 2 * places
    return jnp.sum(words * (2 * factor + 1), dtype=jnp.uint32)


# By the key in a checkpoint; those of earlier versions and of a CPU have a CRC-32.
CHECKSUMS = {"checksum": _crc, "device_checksum": _device_checksum}
