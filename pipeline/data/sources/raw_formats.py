"""Readers of the raw files of MNIST and CIFAR."""

import gzip
import tarfile
from pathlib import Path

import numpy as np


def read_idx(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read MNIST: uint8 [n, 28, 28] and [n, 1], after headers of 16 and 8 bytes."""
    pixels = np.frombuffer(gzip.decompress(Path(images).read_bytes()), np.uint8, offset=16)
    targets = np.frombuffer(gzip.decompress(Path(labels).read_bytes()), np.uint8, offset=8)
    return pixels.reshape(-1, 28, 28), targets[:, None]


def read_binary(
    archive: Path, files: tuple[str, ...], labels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Read CIFAR: uint8 [n, 32, 32, 3] and [n, labels], from rows of labels and CHW pixels."""
    content = b"".join(read_member(archive, file) for file in files)
    rows = np.frombuffer(content, np.uint8).reshape(-1, labels + 3 * 32 * 32)
    images = rows[:, labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), rows[:, :labels]


def read_names(archive: Path, file: str) -> list[str]:
    """Read the names of CIFAR's classes from a file with one name a line."""
    return list(filter(None, read_member(archive, file).decode().splitlines()))


def read_member(archive: Path, file: str) -> bytes:
    """Read one file of a tar archive; raise a KeyError if there is none."""
    with tarfile.open(archive) as tar:
        member = tar.extractfile(file)
        if member is None:
            raise KeyError(f"{file} of {archive} is not a file")
        return member.read()
