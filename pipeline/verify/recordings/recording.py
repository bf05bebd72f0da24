"""A recording of a training loop, as its file has it."""

import json
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from pipeline.errors import UserError
from pipeline.storage.portable_state import Arrays
from pipeline.verify.recordings.precision import Precision, lowest
from pipeline.verify.recordings.recorder import FORMAT, MANIFEST

PARTS = ("batch", "outputs", "loss", "gradients", "learning_rate")  # of a step, beside weights

Entries = dict[str, dict[str, str]]  # `member` and `dtype` by an array's name


class Recording:
    """Reads a recording, a step at a time."""

    def __init__(self, path: Path) -> None:
        """Open a recording.

        Raises:
            UserError: it is none, or another version's.
        """
        self.path = path
        try:
            self._file = np.load(path, allow_pickle=False)
            manifest = json.loads(self._file[MANIFEST].item())
        except FileNotFoundError:
            raise UserError("recording", path, problem="there is no such file") from None
        except (OSError, ValueError, KeyError, BadZipFile, EOFError):
            hint = "Write one with: with record(FILE) as log: …"
            raise UserError("recording", path, problem="it is no recording", hint=hint) from None
        if manifest["format"] != FORMAT:
            problem = f"its format is {manifest['format']}, this version reads {FORMAT}"
            raise UserError("recording", path, problem=problem)
        self.error: str = manifest["error"]
        self.is_ordered: bool = manifest["is_ordered"]  # weights are in the order of definition
        self._start: Entries = manifest["start"]
        self._steps: dict[int, dict[str, Entries]] = {one["step"]: one for one in manifest["steps"]}

    @property
    def numbers(self) -> list[int]:
        """Numbers of the recorded steps."""
        return list(self._steps)

    @property
    def dtypes(self) -> dict[str, str]:
        """Types of the weights by name, as they were in the script."""
        return {name: entry["dtype"] for name, entry in self._start.items()}

    @property
    def precision(self) -> Precision:
        """The lowest precision of what is computed: weights, outputs, loss and gradients."""
        parts = ("outputs", "loss", "gradients", "weights")
        computed = [step.get(part, {}) for step in self._steps.values() for part in parts]
        return lowest(e["dtype"] for entries in (self._start, *computed) for e in entries.values())

    def start(self) -> Arrays:
        """Return the weights before the first step."""
        return self._read(self._start)

    def step(self, number: int) -> dict[str, Arrays]:
        """Return what was recorded of a step, by part: `weights` after it, and of `PARTS` what was given."""
        return {part: self._read(self._steps[number].get(part, {})) for part in ("weights", *PARTS)}

    def has(self, part: str) -> bool:
        """True if every step has this part."""
        return all(part in step for step in self._steps.values())

    def _read(self, entries: Entries) -> Arrays:
        arrays = {name: self._file[entry["member"]] for name, entry in entries.items()}
        is_complex = {name: array.dtype.kind == "c" for name, array in arrays.items()}
        return {
            n: np.stack([a.real, a.imag], -1) if is_complex[n] else a for n, a in arrays.items()
        }
