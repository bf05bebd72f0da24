"""Fingerprint of the data in `dataset.path`: sizes of the files, and the content of a few blocks of each."""

import os
from collections.abc import Iterator, Mapping
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from pipeline.storage.file_stamp import Stamp, stamp_of

KEY = "dataset.path"

# Endings of the data files in a folder, by the name of the data set.
ENDINGS = {
    "arrays": (".npy", ".npz"),
    "huggingface": (".arrow",),
    "table": (".csv", ".tsv", ".parquet", ".csv.gz", ".tsv.gz"),
    "tokens": (".bin", ".npy"),
}
SCRATCH = (
    "cache-"  # begins the names of files that `datasets` writes into its folder, beside the data
)

BLOCK = 1 << 16  # bytes
BLOCKS = 32  # of a file; files up to 2 MiB are read whole
FILES = 64  # whose content is read, evenly spaced by their names


def fingerprint_of(config: Mapping[str, object]) -> str | None:
    """Return a hash of the data, or None if they are not on disk; `config` has dotted keys.

    It reads 2 MiB of a file at most, so an edit in place elsewhere in a large one is not seen. Names, sizes,
    and other data in the place of the old ones are.
    """
    path = Path(str(config[KEY])).expanduser()
    try:
        files = data_files(path, config) if path.is_dir() else [path]
        return _hash_of(path, tuple((file, stamp_of(file)) for file in files)) if files else None
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=64)  # a sweep asks for each of its jobs
def _hash_of(path: Path, files: tuple[tuple[Path, Stamp], ...]) -> str:
    hashed = sha256()
    for number, (file, (_, size, *_)) in enumerate(files):
        name = file.relative_to(path).as_posix()
        hashed.update(f"{name}\0{size}\n".encode())
        if number % -(-len(files) // FILES) == 0:
            for block in blocks_of(file):
                hashed.update(block)
    return hashed.hexdigest()


def data_files(folder: Path, config: Mapping[str, object]) -> list[Path]:
    """List the files of the data in a folder, sorted by name."""
    endings = ENDINGS.get(str(config.get("dataset.name")), ())
    found = [file for file in folder.rglob("*") if endings and file.name.lower().endswith(endings)]
    found = [file for file in found if not file.name.startswith(SCRATCH)]
    if not found and (pattern := config.get("dataset.pattern")):
        found = list(folder.glob(str(pattern)))
    return sorted(file for file in found if file.is_file())


def blocks_of(file: Path) -> Iterator[bytes]:
    """Read blocks of a file, evenly spaced from its first to its last; all of a small file."""
    with file.open("rb") as stream:
        last = os.fstat(stream.fileno()).st_size - BLOCK
        if last <= BLOCK * (BLOCKS - 1):
            yield stream.read()
            return
        for number in range(BLOCKS):
            stream.seek(last * number // (BLOCKS - 1))
            yield stream.read(BLOCK)
