"""Weights from a file, for the side whose names fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UserError
from pipeline.storage.portable_state import Arrays
from pipeline.storage.weights_file import prefixes, read_weights
from pipeline.verify.trace.graph import Array, Description
from pipeline.verify.verdict import SIDES

MOST_NAMES = 3


@dataclass(frozen=True)
class WeightsFile:
    """Arrays of a file, by the names that it has for them."""

    path: Path
    key: str
    arrays: Arrays

    @classmethod
    def read(cls, path: Path, key: str) -> "WeightsFile":
        """Read a file; what only a framework can read, in a process of that framework.

        Raises:
            UserError: there is no such file, or it holds no weights.
        """
        return cls(path, key, read_weights(path, key))

    def fit(self, descriptions: Sequence[Description]) -> tuple[int, Arrays]:
        """Return the side that it fits, 0 for the left one, and its arrays by that side's names.

        Raises:
            UserError: it fits neither.
        """
        problems = []
        for side, description in enumerate(descriptions):
            arrays, problem = self._fit(description.arrays)
            if not problem:
                return side, arrays
            problems.append(f"{SIDES[side]}: {problem}")
        names = ", ".join([*self.arrays][:MOST_NAMES])
        hint = f"It has {names}, … Give the weights of one of the two models, with its own names."
        raise UserError(
            self.key, self.path, problem="it fits neither side: " + "; ".join(problems), hint=hint
        )

    def _fit(self, wanted: Sequence[Array]) -> tuple[Arrays, str]:
        """Return the arrays of a side, and what is wrong with them."""
        ours, theirs = prefixes([array.name for array in wanted], self.arrays)
        found, missing, shapes = {}, [], []
        for array in wanted:
            name = theirs + array.name.removeprefix(ours)
            values = self.arrays.get(name)
            if values is None:
                missing += [array.name] if array.is_trained else []
            elif values.shape != array.shape:
                shapes.append(f"{name} is {[*values.shape]}, {array.name} is {[*array.shape]}")
            else:
                found[array.name] = values
        if missing:
            return found, f"it has no {_listed(missing)}"
        if shapes:
            return found, _listed(shapes)
        return found, "" if found else "none of the names in it is one of this model's"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
