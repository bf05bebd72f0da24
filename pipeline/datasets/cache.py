"""The array cache: data sets as plain `.npy` files, written once, memory-mapped by all.

A cache is a folder `<root>/cache/<label>/` with one file per array and `meta.json`. It is made in
a folder beside it and renamed, so that it is there as a whole or not at all.
"""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pipeline.errors import UserError

FORMAT = 2

Arrays = dict[str, np.ndarray]


def load_or_build(root: Path, label: str, build: Callable[[Path], Arrays]) -> Arrays:
    """Open the cache; whoever comes first builds it while the others wait.

    Opening takes no lock and writes nothing, so that a finished cache may lie on a disk that the
    run cannot write.

    Args:
        root: `dataset.root`.
        label: the cache's folder below `<root>/cache/`.
        build: called with an empty folder for its own temporary files, returns the arrays.

    Returns:
        What `build` returned, memory-mapped read-only.

    Raises:
        UserError: `root` cannot be used, or `build` raised it.
    """
    folder = root / "cache" / label
    if arrays := open_cache(folder):
        return arrays
    with locked(root, label):
        if arrays := open_cache(folder):  # another process built it while this one waited
            return arrays
        try:
            build_cache(folder, build)
        except UserError as error:
            if not folder.exists():
                raise
            told = f"The array cache {folder} is damaged and could not be made again. {error.hint}"
            raise UserError(error.key, error.value, error.allowed, told) from error
        except OSError as error:
            raise unusable(root, error) from error
        return open_cache(folder)


def open_cache(folder: Path) -> Arrays | None:
    """The arrays in `folder`, or None where it is absent, torn or of another format."""
    try:
        meta = json.loads((folder / "meta.json").read_text())
        if meta["format"] != FORMAT:
            return None
        files = {name: (folder / f"{name}.npy", told) for name, told in meta["arrays"].items()}
        return {name: open_array(file, told) for name, (file, told) in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # of a half-written file
        return None


def open_array(file: Path, expected: dict) -> np.ndarray:
    """Memory-map one array.

    Raises:
        OSError, ValueError: it is missing or not what `meta.json` says.
    """
    if file.stat().st_size != expected["bytes"]:
        raise ValueError(f"{file} has {file.stat().st_size} bytes instead of {expected['bytes']}")
    array = np.load(file, mmap_mode="r", allow_pickle=False)
    if describe(file, array) != expected:
        raise ValueError(f"{file} is {array.dtype} {array.shape} instead of {expected}")
    return array


def build_cache(folder: Path, build: Callable[[Path], Arrays]) -> None:
    """Build in a folder beside it, then rename; call under the lock only."""
    for left_over in folder.parent.glob(f"{folder.name}.part-*"):  # of a process that was killed
        shutil.rmtree(left_over, ignore_errors=True)
    part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part-", dir=folder.parent))
    try:
        scratch = part / "scratch"
        scratch.mkdir()
        write_cache(part, build(scratch))
        shutil.rmtree(scratch)
        part.chmod(0o755)  # mkdtemp made it private; a shared root has other readers
        if folder.exists():
            shutil.rmtree(folder)  # torn, or open_cache had taken it
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_cache(folder: Path, arrays: Arrays) -> None:
    """Write the arrays and, last, `meta.json`; all of it on the disk before this returns."""
    described = {}
    for name, array in arrays.items():
        file = folder / f"{name}.npy"
        with file.open("wb") as stream:
            np.save(stream, array, allow_pickle=False)
            stream.flush()
            os.fsync(stream.fileno())
        described[name] = describe(file, array)
    with (folder / "meta.json").open("w") as stream:
        json.dump({"format": FORMAT, "arrays": described}, stream, indent=2)
        stream.flush()
        os.fsync(stream.fileno())


def describe(file: Path, array: np.ndarray) -> dict:
    """What `meta.json` says about one array."""
    return {
        "dtype": array.dtype.str,
        "shape": list(array.shape),
        "bytes": file.stat().st_size,
    }


@contextmanager
def locked(root: Path, label: str) -> Iterator[None]:
    """Hold the lock of one cache; the kernel gives it back if the process dies.

    Raises:
        UserError: the lock's file cannot be written.
    """
    try:
        (root / "cache").mkdir(parents=True, exist_ok=True)
        stream = (root / "cache" / f"{label}.lock").open("w")
    except OSError as error:
        raise unusable(root, error) from error
    with stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def unusable(root: Path, error: OSError) -> UserError:
    """The message for a root that cannot be written."""
    return UserError(
        "dataset.root",
        root,
        "a folder that can be written and has room for the array cache",
        f"{error.strerror or error}: {error.filename or root}. "
        "Type dataset.root=FOLDER or set TANDEM_DATA to another folder.",
    )
