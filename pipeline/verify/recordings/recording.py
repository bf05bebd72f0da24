"""A recording of a training loop, as its file has it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from pipeline.errors import UserError
from pipeline.storage.portable_state import Arrays
from pipeline.verify.recordings.precision import Precision, precision_of
from pipeline.verify.recordings.recorder import FORMAT, MANIFEST

Entries = dict[str, dict[str, str]]  # `member` and `dtype` by an array's name


@dataclass(frozen=True)
class Step:
    """What was recorded of one optimizer step; arrays by name, as they were."""

    number: int  # from 1
    batch: Arrays = field(default_factory=dict)
    outputs: Arrays = field(default_factory=dict)
    loss: Arrays = field(default_factory=dict)
    learning_rate: Arrays = field(default_factory=dict)
    gradients: Arrays | None = None  # None: they were not recorded
    weights: Arrays = field(default_factory=dict)  # after the step


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
        entries = [*self._start.values()]
        for step in self._steps.values():
            for part in ("outputs", "loss", "gradients", "weights"):
                entries += step.get(part, {}).values()
        found = (precision_of(entry["dtype"]) for entry in entries)
        return max((one for one in found if one), key=lambda one: one.bar)

    def start(self) -> Arrays:
        """Return the weights before the first step."""
        return self._read(self._start)

    def step(self, number: int) -> Step:
        """Return what was recorded of a step."""
        entries = self._steps[number]
        found = {
            part: self._read(entries.get(part, {}))
            for part in ("batch", "outputs", "loss", "learning_rate", "weights")
        }
        gradients = self._read(entries["gradients"]) if "gradients" in entries else None
        return Step(number, gradients=gradients, **found)

    def _read(self, entries: Entries) -> Arrays:
        return {name: self._array(entry["member"]) for name, entry in entries.items()}

    def _array(self, member: str) -> np.ndarray:
        array = self._file[member]
        if array.dtype.kind == "c":
            return np.stack([array.real, array.imag], -1)
        return array

    def has(self, part: str) -> bool:
        """True if every step has this part."""
        return all(part in step for step in self._steps.values())
