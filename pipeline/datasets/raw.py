"""The raw files of MNIST and CIFAR as arrays, for where no library reads them."""

import gzip
import tarfile
from pathlib import Path

import numpy as np


def read_idx(images: Path, labels: Path) -> tuple[np.ndarray, np.ndarray]:
    """MNIST's files: uint8 [n, 28, 28] and [n, 1], behind headers of 16 and 8 bytes."""
    pixels = np.frombuffer(gzip.decompress(Path(images).read_bytes()), np.uint8, offset=16)
    targets = np.frombuffer(gzip.decompress(Path(labels).read_bytes()), np.uint8, offset=8)
    return pixels.reshape(-1, 28, 28), targets[:, None]


def read_binary(
    archive: Path, files: tuple[str, ...], labels: int
) -> tuple[np.ndarray, np.ndarray]:
    """CIFAR's files: uint8 [n, 32, 32, 3] and [n, labels], stored as rows of both, CHW."""
    with tarfile.open(archive) as tar:
        content = b"".join(tar.extractfile(file).read() for file in files)
    rows = np.frombuffer(content, np.uint8).reshape(-1, labels + 3 * 32 * 32)
    images = rows[:, labels:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), rows[:, :labels]


def read_names(archive: Path, file: str) -> list[str]:
    """What CIFAR's classes are called: a file of the archive with one a line."""
    with tarfile.open(archive) as tar:
        return list(filter(None, tar.extractfile(file).read().decode().splitlines()))
