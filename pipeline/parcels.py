"""A run on its way to another backend, and the files that it travels in: safetensors, no pickle.

A *parcel* is all of a run at a step. Its file has arrays like `parameters/conv1.weight` and
`slots/exp_avg/conv1.weight`. *Weights* are the weights alone, by canonical name (`conv1.weight`), as
a plain torch model's `load_state_dict` takes them. Either says in its metadata whose it is.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pipeline.checkpoints import BrokenCheckpoint
from pipeline.portable import COUNTER, STATISTICS, Arrays, PortableState, digest
from pipeline.runs import replacing

SUFFIX = ".safetensors"
METADATA = "tandem"  # the one key of the file's metadata that is ours; JSON


@dataclass(frozen=True)
class Parcel:
    """A run at a step, with what its recorder remembers.

    Args:
        state: the arrays and the step.
        memory: of the recorder, `Recorder.state`; None where there are weights alone.
        run: who it is: `backend`, `config` and `data` as `run.json` has them, and `source`, the path
            of the checkpoint; empty where a file does not say.
    """

    state: PortableState
    memory: dict[str, Any] | None
    run: dict[str, Any]

    @property
    def source(self) -> Path:
        """The checkpoint or file that it was made of."""
        return Path(self.run["source"])


def write_parcel(path: Path, parcel: Parcel) -> None:
    """Write all of a run at a step."""
    state = parcel.state
    groups = {"parameters": state.parameters, "buffers": state.buffers, "averages": state.averages}
    groups |= {f"slots/{slot}": arrays for slot, arrays in state.slots.items()}
    arrays = {f"{group}/{name}": array for group in groups for name, array in groups[group].items()}
    about = {"kind": "parcel", "step": state.step, "slots": list(state.slots)}
    _write(path, arrays, about | {"memory": parcel.memory, "run": parcel.run})


def write_weights(path: Path, parcel: Parcel) -> None:
    """Write the weights that the run is evaluated with, alone: with `train.ema` their averages."""
    state = parcel.state
    known = parcel.run.get("config")
    accumulate = known["train"]["accumulate"] if known else 1
    weights = state.averages or state.parameters
    arrays = weights | state.buffers | state.counters(accumulate)
    _write(path, arrays, {"kind": "weights", "step": state.step, "run": parcel.run})


def read_parcel(path: Path) -> Parcel:
    """What a file holds: all of a run, or weights alone, as of a run at step 0; anybody's will do.

    Raises:
        BrokenCheckpoint: it is no safetensors file, or torn or corrupt.
    """
    try:
        with safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = (file.metadata() or {}).get(METADATA)
    except (SafetensorError, OSError, TypeError) as error:  # TypeError: of a number NumPy lacks
        raise BrokenCheckpoint(str(error)) from error
    about = json.loads(metadata) if metadata else {"kind": "weights", "run": {}}
    if metadata and digest(arrays) != about["digest"]:
        raise BrokenCheckpoint("its arrays are not those that were written")
    run = {"source": str(path)} | about["run"]
    if about["kind"] == "weights":
        return Parcel(_state_of_weights(arrays), None, run)
    inside = {group: _below(group, arrays) for group in ("parameters", "buffers", "averages")}
    slots = {slot: _below(f"slots/{slot}", arrays) for slot in about["slots"]}
    return Parcel(PortableState(about["step"], **inside, slots=slots), about["memory"], run)


def _state_of_weights(arrays: Arrays) -> PortableState:
    """A run at step 0 with these weights."""
    buffers = {name: array for name, array in arrays.items() if name.endswith(STATISTICS)}
    parameters = {
        name: array
        for name, array in arrays.items()
        if name not in buffers and not name.endswith(COUNTER)
    }
    return PortableState(0, parameters, buffers)


def _below(group: str, arrays: Arrays) -> Arrays:
    """The arrays of a group, by their names in it."""
    prefix = f"{group}/"
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def _write(path: Path, arrays: Arrays, about: dict[str, Any]) -> None:
    """Replace a file whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = json.dumps(about | {"digest": digest(arrays)})
    with replacing(path) as aside:
        save_file(arrays, aside, metadata={METADATA: metadata})
