"""The array cache: data sets as plain `.npy` files, written once, memory-mapped by all jobs.

A cache is a folder `<root>/cache/<label>/` with one file per array and `meta.json`. It is built in
a folder beside it and renamed, so it is complete or absent.
"""

import fcntl
import json
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from pipeline.atomic_files import sync, write_json
from pipeline.errors import UserError

FORMAT = 2

Arrays = dict[str, np.ndarray]


def load_or_build(
    root: Path,
    label: str,
    build: Callable[[Path], Arrays],
    key: str = "dataset.root",
    resumes: bool = False,
) -> Arrays:
    """Open a cache, or build it; other processes wait for the one that builds.

    Opening takes no lock and writes nothing, so a finished cache may lie on a read-only disk.

    Args:
        root: `dataset.root`.
        label: name of the cache's folder below `<root>/cache/`.
        build: called with a folder for temporary files; returns the arrays. A memory-mapped `.npy` file in
            that folder is moved into the cache instead of copied.
        key: config key of `root`, for errors.
        resumes: the folder keeps the files of an interrupted `build` for the next one; else it is empty.

    Returns:
        The arrays of `build`, memory-mapped read-only.

    Raises:
        UserError: `root` cannot be used, or `build` raised it.
    """
    folder = root / "cache" / label
    if arrays := open_cache(folder):
        return arrays
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (root / "cache" / f"{label}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel releases it if the process dies
            if arrays := open_cache(folder):  # another process built it while this one waited
                return arrays
            build_cache(folder, build, resumes)
            return read_cache(folder)
    except UserError as error:
        if not folder.exists():
            raise
        damage = f"The array cache {folder} is damaged and could not be rebuilt."
        parts = error.parts | {"hint": f"{damage} {error.hint}"}
        raise UserError(**parts) from error
    except OSError as error:
        raise unusable_root(root, error, key) from error


def open_cache(folder: Path) -> Arrays | None:
    """Memory-map the arrays in `folder`; None if it is absent, incomplete or of another format."""
    try:
        return read_cache(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # a half-written file
        return None


def read_cache(folder: Path) -> Arrays:
    """Memory-map the arrays in `folder`; raise an error if they are not as `meta.json` says."""
    meta = json.loads((folder / "meta.json").read_text())
    if meta["format"] != FORMAT:
        raise ValueError(f"{folder} has format {meta['format']} instead of {FORMAT}")
    arrays = {}
    for name, expected in meta["arrays"].items():
        file = folder / f"{name}.npy"
        # First: `np.load` raises other errors for an empty file.
        if (size := file.stat().st_size) != expected["bytes"]:
            raise ValueError(f"{file} has {size} bytes instead of {expected['bytes']}")
        arrays[name] = np.load(file, mmap_mode="r", allow_pickle=False)
        if describe(file, arrays[name]) != expected:
            raise ValueError(f"{file} is {describe(file, arrays[name])} instead of {expected}")
    return arrays


def build_cache(folder: Path, build: Callable[[Path], Arrays], resumes: bool = False) -> None:
    """Build in a folder beside it, then rename; the lock must be held."""
    for leftover in folder.parent.glob(f"{folder.name}.part-*"):  # of a killed process
        shutil.rmtree(leftover, ignore_errors=True)
    if resumes:
        part = folder.parent / f"{folder.name}.unfinished"
        part.mkdir(exist_ok=True)
    else:
        part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part-", dir=folder.parent))
    try:
        scratch = part / "scratch"
        scratch.mkdir(exist_ok=True)
        arrays, infos = build(scratch), {}
        made = {name: file_in(scratch, array) for name, array in arrays.items()}
        for name in sorted(arrays, key=lambda name: made[name] is not None):
            # Moved last: if the disk is full before, the next build finds the file again.
            file = part / f"{name}.npy"
            if source := made[name]:
                source.replace(file)
            else:
                np.save(file, arrays[name], allow_pickle=False)
            sync(file)
            infos[name] = describe(file, arrays[name])
        write_json(part / "meta.json", {"format": FORMAT, "arrays": infos})
        shutil.rmtree(scratch)
        part.chmod(0o755)  # mkdtemp makes it private; others may read a shared root
        if folder.exists():
            shutil.rmtree(folder)  # incomplete: open_cache did not return it
        part.rename(folder)
    finally:
        if not resumes:
            shutil.rmtree(part, ignore_errors=True)


def remove_unfinished(part: Path) -> None:
    """Remove what an interrupted build that resumes has left, unless a process works on it."""
    with part.with_suffix(".lock").open("w") as lock, suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(part, ignore_errors=True)


def file_in(scratch: Path, array: np.ndarray) -> Path | None:
    """Return the `.npy` file in `scratch` that is mapped as this whole array; None if there is none."""
    file = Path(array.filename or "") if isinstance(array, np.memmap) else Path()
    if file.parent != scratch or file.suffix != ".npy" or not array.flags.c_contiguous:
        return None
    stored = np.load(file, mmap_mode="r", allow_pickle=False)
    return file if (stored.shape, stored.dtype) == (array.shape, array.dtype) else None


def describe(file: Path, array: np.ndarray) -> dict[str, object]:
    """Make the entry of one array in `meta.json`."""
    return {"dtype": array.dtype.str, "shape": list(array.shape), "bytes": file.stat().st_size}


def unusable_root(root: Path, error: OSError, key: str) -> UserError:
    """Make the error for a root that cannot be written."""
    reason = f"{error.strerror or error}: {error.filename or root}"
    problem = f"the array cache cannot be written: {reason}"
    hint = f"Set {key} or TANDEM_DATA to another folder."
    return UserError(key, root, hint=hint, problem=problem)
