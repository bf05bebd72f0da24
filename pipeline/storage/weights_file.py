"""Files of weights: arrays by name, as torch, Flax or safetensors writes them."""

import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from pipeline.backend_specs import BACKENDS
from pipeline.config.checks.suggestions import nearest
from pipeline.errors import UserError
from pipeline.storage.portable_state import Arrays
from pipeline.storage.weights_path import FOLDER_FILES, weight_files, weights_in

SUFFIX = ".safetensors"
ROOT = Path(__file__).resolve().parents[2]


def read_weights(path: Path, key: str, also: str = "") -> Arrays:
    """Read the floats of a file by name; what only a framework can read, in a process of that framework.

    It may be the index of a file in parts, or a folder as Hugging Face saves a model; `also` says what
    else the key may name.

    Raises:
        UserError: there is no such file, or it holds no weights.
    """
    if path.is_dir() and weights_in(path) is None:
        hint = f"It needs one of {', '.join(FOLDER_FILES)}."
        raise UserError(key, path, problem="this folder is no run, and holds no weights", hint=hint)
    if not path.exists():
        raise _absent(path, key, also)
    found: Arrays = {}
    for file in weight_files(path, key):
        found |= _read(file, key)
    if not found:
        raise UserError(key, path, problem="it holds no arrays of floats")
    return found


def _absent(path: Path, key: str, also: str) -> UserError:
    """Return the error about a path that is not there, with the most similar one beside it."""
    beside = sorted(path.parent.iterdir()) if path.parent.is_dir() else []
    named = [one.name for one in beside if one.is_dir() or one.suffix in _suffixes()]
    close = nearest(path.name, named)
    hint = f"Did you mean {path.with_name(close)}? " if close else ""
    hint += f"Name a file {_or(_suffixes())}{also and f', or {also}'}."
    problem = f"there is no such file{also and ' or folder'}"
    return UserError(key, path, problem=problem, hint=hint)


def _suffixes() -> list[str]:
    return [suffix for spec in BACKENDS.values() for suffix in spec.weights]


def _read(path: Path, key: str) -> Arrays:
    known = _suffixes()
    if path.suffix not in known:
        hint = "Save a state dict with torch.save, or arrays with safetensors."
        raise UserError(key, path, f"a file {_or(known)}", hint)
    if path.suffix == SUFFIX:
        try:
            found = load_file(path)
            return {n: a.astype(np.float64) for n, a in found.items() if _is_float(a)}
        except (
            TypeError,
            KeyError,
            AttributeError,
        ):  # bfloat16 or float8, which NumPy does not know
            pass
        except (SafetensorError, OSError) as error:
            hint = "Copy it again: it may have been cut off."
            raise UserError(key, path, problem=f"it cannot be read: {error}", hint=hint) from error
    return _read_by_framework(path, key)


def prefixes(names: Sequence[str], known: Iterable[str]) -> tuple[str, str]:
    """Return the prefixes that a model's names and a file's have, where the rest agrees the most."""
    known = set(known)
    choices = {("", "")}
    for name in names:
        choices |= {("", other.removesuffix(name)) for other in known if other.endswith(f".{name}")}
        choices |= {(name.removesuffix(other), "") for other in known if name.endswith(f".{other}")}
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
            reason = reason.removeprefix("ValueError: ").rstrip(". ")
            hint = "Save a state dict with torch.save, or arrays with safetensors."
            raise UserError(key, path, problem=f"it cannot be read: {reason}", hint=hint)
        with np.load(target) as arrays:
            return dict(arrays)


def _is_float(array: np.ndarray) -> bool:
    return np.issubdtype(array.dtype, np.floating)


def _or(suffixes: Sequence[str]) -> str:
    names = list(dict.fromkeys(suffixes))
    return f"{', '.join(names[:-1])} or {names[-1]}"
