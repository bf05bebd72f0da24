"""Weights from a file, for the side whose names fit."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from pipeline.backend_specs import BACKENDS
from pipeline.errors import UserError
from pipeline.storage.portable_state import Arrays
from pipeline.verify.trace.graph import Array, Description
from pipeline.verify.verdict import SIDES

SUFFIX = ".safetensors"
ROOT = Path(__file__).resolve().parents[3]
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
        known = [suffix for spec in BACKENDS.values() for suffix in spec.weights]
        if not path.is_file():
            raise UserError(
                key, path, problem="there is no such file", hint=f"Name a file {_or(known)}."
            )
        if path.suffix not in known:
            hint = "Save a state dict with torch.save, or arrays with safetensors."
            raise UserError(key, path, f"a file {_or(known)}", hint)
        if path.suffix == SUFFIX:
            try:
                found = load_file(path)
                return cls(
                    path, key, {n: a.astype(np.float64) for n, a in found.items() if _is_float(a)}
                )
            except TypeError:  # bfloat16, which NumPy does not know
                pass
            except SafetensorError as error:
                raise UserError(key, path, problem=f"it cannot be read: {error}") from error
        return cls(path, key, _read_by_framework(path, key))

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
        ours, theirs = self._prefixes([array.name for array in wanted])
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
        return found, _listed(shapes) if shapes else "" if found else "it has none of its names"

    def _prefixes(self, names: Sequence[str]) -> tuple[str, str]:
        """Return the prefixes that the side's names and the file's have, where the rest agrees the most."""
        known = set(self.arrays)
        choices = {("", "")}
        for name in names:
            choices |= {
                ("", other.removesuffix(name)) for other in known if other.endswith(f".{name}")
            }
            choices |= {
                (name.removesuffix(other), "") for other in known if name.endswith(f".{other}")
            }
        return max(
            sorted(choices),
            key=lambda one: sum(
                name.startswith(one[0]) and one[1] + name.removeprefix(one[0]) in known
                for name in names
            ),
        )


def _read_by_framework(path: Path, key: str) -> Arrays:
    spec = next(spec for spec in BACKENDS.values() if path.suffix in spec.weights)
    with TemporaryDirectory() as folder:
        target = Path(folder) / "weights.npz"
        command = [sys.executable, "-m", f"{spec.package}.verify.weights_file"]
        done = subprocess.run(
            [*command, str(path.resolve()), str(target)], cwd=ROOT, capture_output=True, text=True
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1][:300]
            hint = "Save a state dict with torch.save, or arrays with safetensors."
            raise UserError(key, path, problem=f"it cannot be read: {reason}", hint=hint)
        with np.load(target) as arrays:
            return dict(arrays)


def _is_float(array: np.ndarray) -> bool:
    return np.issubdtype(array.dtype, np.floating)


def _or(suffixes: Sequence[str]) -> str:
    names = list(dict.fromkeys(suffixes))
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
