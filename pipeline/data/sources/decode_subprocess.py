"""Decoding in a subprocess, so that a jax job never loads torch and a torch job never loads TFDS.

The job calls `decode`; `lightning_impl/data/sources.py` and `flax_impl/data/sources.py` call `serve` in the
subprocess. It returns arrays as `.npy` files, or a UserError as one line of JSON and exit code 1.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import pipeline
from pipeline.config.datasets import Source
from pipeline.data.sources import mirror
from pipeline.data.sources.array_cache import Arrays, unusable_root
from pipeline.errors import UserError, failure

ARRAYS = ("train_inputs", "train_targets", "test_inputs", "test_targets", "classes")
MODULES = {Source.torchvision: "lightning_impl.data.sources", Source.tfds: "flax_impl.data.sources"}


def decode(source: Source, name: str, root: Path, download: bool, out: Path) -> Arrays:
    """Decode a data set with the library `source`, which first downloads missing files if asked.

    `root` is the absolute folder with the raw files, `out` an empty folder for the files of the
    subprocess, which the returned arrays map.

    Returns:
        `train_inputs` and `test_inputs`, uint8 [n, height, width, channels]; `train_targets` and
        `test_targets`, int64 [n]; in the order of the source. `classes`, str [classes]: their names.

    Raises:
        UserError: from the subprocess: missing or damaged files, a failed download.
        RuntimeError: the subprocess failed otherwise; its traceback is on stderr.
    """
    arguments = ["--name", name, "--root", str(root), "--out", str(out)]
    run_child(MODULES[source], [*arguments, "--download"] if download else arguments)
    files = {array: out / f"{array}.npy" for array in ARRAYS}
    return {array: np.load(files[array], mmap_mode="r", allow_pickle=False) for array in ARRAYS}


def run_child(module: str, arguments: Sequence[str]) -> None:
    """Run a module in the subprocess; raise its `UserError`."""
    command = [sys.executable, "-P", "-m", module, *arguments]
    repository = str(Path(pipeline.__file__).parents[1])
    search = os.pathsep.join(filter(None, [repository, os.environ.get("PYTHONPATH")]))

    # stderr is inherited: the libraries draw their progress bars there.
    child = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": search}, stdout=subprocess.PIPE, text=True
    )
    if child.returncode != 0:
        raise failure(child, command)


def serve(read: Callable[[str, Path, bool], Arrays]) -> None:
    """Main function of the subprocess: call `read(name, root, download)` and write the arrays."""
    parser = argparse.ArgumentParser(description="Decode a data set into plain .npy files.")
    parser.add_argument("--name", required=True, help="of the data set")
    parser.add_argument("--root", required=True, type=Path, help="folder with the raw files")
    parser.add_argument("--download", action="store_true", help="fetch what is missing")
    parser.add_argument("--out", required=True, type=Path, help="folder for the arrays")
    options = parser.parse_args()

    with reported_errors():
        if options.download:
            mirror.fetch_checksums(options.name, options.root)
        arrays = read(options.name, options.root, options.download)
        try:
            for array in ARRAYS:
                np.save(options.out / f"{array}.npy", arrays[array], allow_pickle=False)
        except OSError as error:  # the disk is full
            raise unusable_root(options.root, error, "dataset.root") from error


@contextmanager
def reported_errors() -> Generator[None]:
    """In the subprocess: let no connection wait forever, and hand a `UserError` to the job."""
    socket.setdefaulttimeout(mirror.TIMEOUT)  # the libraries set none
    try:
        yield
    except UserError as error:
        print("\n" + json.dumps(error.parts))
        sys.exit(1)


def download_failed(name: str, error: Exception, instead: str) -> UserError:
    """Make the error for a failed download; `instead` says which files to put where by hand."""
    hint = f"Check the network, or set {mirror.VARIABLE}=URL. {instead}"
    problem = f"downloading {name} failed: {one_line(error)}"
    return UserError("dataset.download", "true", hint=hint, problem=problem)


def one_line(error: Exception) -> str:
    """Return the message of a library's error, in one line without a full stop."""
    return (" ".join(str(error).split()) or type(error).__name__).rstrip(".")
