"""Arrays of `.npy` and `.npz` files, memory-mapped."""

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

import numpy as np
from numpy.lib.format import MAGIC_PREFIX

from pipeline.config.checks.suggestions import nearest_path
from pipeline.config.own_datasets import ArraysConfig
from pipeline.data.sources.array_cache import Arrays, load_or_build
from pipeline.data.sources.file_digest import digest_of
from pipeline.errors import UserError

KEY = "dataset.path"
ENDINGS = (".npy", ".npz")


def path_of(config: ArraysConfig) -> Path:
    """Return `dataset.path`; refuse what is no file or folder."""
    path = Path(config.path).expanduser()
    hint = "Set dataset.path to a .npy or .npz file, or a folder of them."
    if not config.path:
        raise UserError(KEY, "''", "a file or folder of arrays", hint)
    if not path.exists():
        raise UserError(
            KEY, path, problem="there is no such file or folder", hint=nearest_path(path) + hint
        )
    if path.is_file() and path.suffix not in ENDINGS:
        raise UserError(KEY, path, problem="it is no .npy or .npz file", hint=hint)
    return path


def open_arrays(path: Path, root: str) -> Arrays:
    """Map the arrays of a file, or of the files in a folder and its sub-folders, by their names."""
    if path.is_file():
        return open_file(path, path.stem, root)
    arrays: Arrays = {}
    for file in sorted(file for file in path.rglob("*") if file.suffix in ENDINGS):
        name = file.relative_to(path).with_suffix("").as_posix()
        found = open_file(file, name, root)
        if file.suffix == ".npz":
            found = {f"{name}/{field}": array for field, array in found.items()}
        if twice := arrays.keys() & found.keys():
            problem = f"two files have an array {twice.pop()}: {file} is one"
            raise UserError(KEY, path, problem=problem)
        arrays |= found
    if not arrays:
        problem = "this folder has no .npy or .npz file"
        raise UserError(KEY, path, problem=problem)
    return arrays


def open_file(file: Path, name: str, root: str) -> Arrays:
    """Map the array of a `.npy` file by the given name, or those of a `.npz` file by their own.

    `root` is the folder with the array cache.
    """
    try:
        if file.suffix == ".npy":
            return {name: map_array(file)}

        def extract(scratch: Path) -> Arrays:
            return dict(extracted(file, scratch))

        cache = Path(root).expanduser().absolute()
        arrays = load_or_build(cache, f"npz-{digest_of([file])}-v1", extract)
        return {unquote(stored): array for stored, array in arrays.items()}
    except (ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise UserError(KEY, file, problem=problem_of(error)) from error
    except OSError as error:
        problem = f"it cannot be read: {error.strerror or error}"
        raise UserError(KEY, file, problem=problem) from error


def map_array(file: Path) -> np.ndarray:
    """Map a `.npy` file read-only."""
    with file.open("rb") as stream:
        if (
            start := stream.read(len(MAGIC_PREFIX))
        ) != MAGIC_PREFIX:  # NumPy would take it for a pickle
            raise EOFError("it has no header" if start else "it is empty")
    return np.load(file, mmap_mode="r", allow_pickle=False)


def extracted(file: Path, folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Copy the arrays out of a `.npz` file; yield them mapped, their names quoted for the cache."""
    with zipfile.ZipFile(file) as archive:
        for member in archive.namelist():
            stored = quote(member.removesuffix(".npy"), safe="")
            copy = folder / f"{stored}.npy"
            with archive.open(member) as source, copy.open("wb") as target:
                shutil.copyfileobj(source, target, 2**20)
            yield stored, map_array(copy)


def problem_of(error: Exception) -> str:
    """Describe why NumPy cannot read a file."""
    text = str(error).strip("'\"").rstrip(".") or type(error).__name__
    if "Object arrays" in text or "Python objects" in text:
        return "it holds Python objects, which are pickled: reading them could run any code"
    return f"it is no array that NumPy can read: {text}"
