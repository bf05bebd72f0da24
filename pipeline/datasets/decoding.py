"""Decoding in a short process of its own, so that a jax job never loads torch, nor torch TFDS.

`decode` is the end in the job; `serve` the end in the child, called by `lightning_impl/sources.py`
and `flax_impl/sources.py`. Between them: the arrays as `.npy` files, and for a failure that
is the user's to mend one line of JSON and exit code 1.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

import pipeline
from pipeline.config import Source
from pipeline.datasets import mirror
from pipeline.datasets.cache import unusable
from pipeline.errors import UserError, failure

ARRAYS = ("train_inputs", "train_targets", "test_inputs", "test_targets", "classes")
MODULES = {
    Source.torchvision: "lightning_impl.sources",
    Source.tfds: "flax_impl.sources",
}


def decode(
    source: Source, name: str, root: Path, download: bool, out: Path
) -> dict[str, np.ndarray]:
    """The arrays of a data set, decoded by the library that `source` names.

    Args:
        source: which library reads the raw files.
        name: of the data set.
        root: absolute; the folder with the raw files.
        download: fetch them first if they are not there.
        out: an empty folder for the child's files, which the arrays returned are mapped from.

    Returns:
        `train_inputs` and `test_inputs`, uint8 [n, height, width, channels]; `train_targets` and
        `test_targets`, int64 [n]; in the order of the source. `classes`, str [classes]: their names.

    Raises:
        UserError: as told by the child: missing or damaged files, a download that failed.
        RuntimeError: the child ended otherwise; its traceback is on stderr.
    """
    command = [sys.executable, "-P", "-m", MODULES[source]]
    command += ["--name", name, "--root", str(root), "--out", str(out)]
    command += ["--download"] if download else []
    repository = str(Path(pipeline.__file__).parents[1])
    search = os.pathsep.join(filter(None, [repository, os.environ.get("PYTHONPATH")]))

    # Standard error stays the terminal's: the libraries draw their progress bars there.
    child = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": search}, stdout=subprocess.PIPE, text=True
    )
    if child.returncode != 0:
        raise failure(child, command)
    return {
        array: np.load(out / f"{array}.npy", mmap_mode="r", allow_pickle=False) for array in ARRAYS
    }


def serve(read: Callable[[str, Path, bool], dict[str, np.ndarray]]) -> None:
    """The child's whole life: read the arrays, write them under `--out`, or say why not.

    Args:
        read: from name, root and whether to download to the arrays.
    """
    parser = argparse.ArgumentParser(description="Decode a data set into plain .npy files.")
    parser.add_argument("--name", required=True, help="of the data set")
    parser.add_argument("--root", required=True, type=Path, help="folder with the raw files")
    parser.add_argument("--download", action="store_true", help="fetch what is missing")
    parser.add_argument("--out", required=True, type=Path, help="folder for the arrays")
    options = parser.parse_args()

    socket.setdefaulttimeout(mirror.SECONDS)  # the libraries set none and would wait for ever
    try:
        if options.download:
            mirror.fetch_checksums(options.name, options.root)
        arrays = read(options.name, options.root, options.download)
        save(arrays, options.out, options.root)
    except UserError as error:
        told = {part: str(getattr(error, part)) for part in ("key", "value", "allowed", "hint")}
        print("\n" + json.dumps(told))
        sys.exit(1)


def save(arrays: dict[str, np.ndarray], out: Path, root: Path) -> None:
    """Write the arrays for the parent to map.

    Raises:
        UserError: the disk of `dataset.root` is full.
    """
    try:
        for array in ARRAYS:
            np.save(out / f"{array}.npy", arrays[array], allow_pickle=False)
    except OSError as error:
        raise unusable(root, error) from error


def download_failed(name: str, error: Exception, instead: str) -> UserError:
    """The message for a download that did not succeed.

    Args:
        name: of the data set.
        error: what the library said.
        instead: what to put where by hand, as a sentence.
    """
    return UserError(
        "dataset.download",
        "true",
        f"possible, but fetching {name} failed: {told(error)}",
        f"Check the network, or set {mirror.VARIABLE}=URL. {instead}",
    )


def told(error: Exception) -> str:
    """What a library's error says, in one line without a full stop."""
    return (" ".join(str(error).split()) or type(error).__name__).rstrip(".")
