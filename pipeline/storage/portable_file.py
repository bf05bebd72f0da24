"""Portable checkpoints as files that every backend reads: safetensors, no pickle.

The file of a whole run has arrays like `parameters/conv1.weight` and `slots/exp_avg/conv1.weight`. The
file of weights alone has canonical names (`conv1.weight`), as a plain torch model's `load_state_dict`
takes them. The metadata of both name the run.
"""

import json
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pipeline.atomic_files import replacing
from pipeline.digest import digest
from pipeline.storage.checkpoints import BrokenCheckpoint
from pipeline.storage.portable_state import Arrays, PortableState, state_of_weights
from pipeline.storage.recorder_state import RecorderState

SUFFIX = ".safetensors"
METADATA = "tandem"  # our one key in the file's metadata; JSON


@dataclass(frozen=True)
class PortableCheckpoint:
    """A run at a step, with the state of its recorder.

    `run` is its identity as far as it is known: `backend`, `config` and `data` as in `run.json`, and
    `source`, the path of the checkpoint.
    """

    state: PortableState
    recorder_state: RecorderState | None  # None in a file of weights alone
    run: dict[str, Any]

    @property
    def source(self) -> Path:
        """The checkpoint or file that it was read from."""
        return Path(self.run["source"])


def write_portable(path: Path, portable: PortableCheckpoint) -> None:
    """Write the whole state of a run at a step."""
    state = portable.state
    groups = {"parameters": state.parameters, "buffers": state.buffers, "averages": state.averages}
    groups |= {f"slots/{slot}": arrays for slot, arrays in state.slots.items()}
    arrays = {f"{group}/{name}": array for group in groups for name, array in groups[group].items()}
    recorder_state = portable.recorder_state.to_json() if portable.recorder_state else None
    about = {"kind": "parcel", "step": state.step, "slots": list(state.slots)}
    _write(path, arrays, about | {"memory": recorder_state, "run": portable.run})


def write_weights(path: Path, portable: PortableCheckpoint) -> None:
    """Write only the weights that the run is evaluated with: with `train.ema` their averages."""
    state = portable.state
    known = portable.run.get("config")
    accumulate = known["train"]["accumulate"] if known else 1
    weights = state.averages or state.parameters
    arrays = weights | state.buffers | state.counters(accumulate)
    _write(path, arrays, {"kind": "weights", "step": state.step, "run": portable.run})


def read_portable(path: Path) -> PortableCheckpoint:
    """Read a file with a whole run or with weights alone, from any program; weights become a run at step 0.

    Raises:
        BrokenCheckpoint: it is no safetensors file, or torn or corrupt.
    """
    try:
        with safe_open(path, framework="np") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = (file.metadata() or {}).get(METADATA)
    except (SafetensorError, OSError, TypeError) as error:  # TypeError: a type that NumPy lacks
        raise BrokenCheckpoint(str(error)) from error
    about = json.loads(metadata) if metadata else {"kind": "weights", "run": {}}
    if metadata and digest(arrays) != about["digest"]:
        raise BrokenCheckpoint("its arrays are not those that were written")
    rest = {key: value for key, value in about.items() if key not in ("digest", "about_digest")}
    if about.get("about_digest") not in (None, _digest_json(rest)):  # None: of an earlier version
        raise BrokenCheckpoint("what lies beside its arrays is not what was written")
    run = {"source": str(path)} | about["run"]
    if about["kind"] == "weights":
        return PortableCheckpoint(state_of_weights(arrays), None, run)
    inside = {group: _below(group, arrays) for group in ("parameters", "buffers", "averages")}
    slots = {slot: _below(f"slots/{slot}", arrays) for slot in about["slots"]}
    memory = about["memory"]
    recorder_state = None if memory is None else RecorderState.from_json(memory)
    state = PortableState(about["step"], **inside, slots=slots)
    return PortableCheckpoint(state, recorder_state, run)


def _below(group: str, arrays: Arrays) -> Arrays:
    """Return the arrays of a group, by their names in it."""
    prefix = f"{group}/"
    names = [name for name in arrays if name.startswith(prefix)]
    return {name.removeprefix(prefix): arrays[name] for name in names}


def _digest_json(content: dict[str, Any]) -> str:
    """Return the SHA-256 of JSON content, independent of the order of its keys."""
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _write(path: Path, arrays: Arrays, about: dict[str, Any]) -> None:
    """Replace a file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    about |= {"digest": digest(arrays), "about_digest": _digest_json(about)}
    with replacing(path) as aside:
        save_file(arrays, aside, metadata={METADATA: json.dumps(about)})
