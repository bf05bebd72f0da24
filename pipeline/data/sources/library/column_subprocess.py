"""Reading of the columns of a library's data set in a subprocess; see `decode_subprocess.py`."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.column_datasets import LibraryConfig
from pipeline.config.datasets import Source
from pipeline.config.experiment import plain
from pipeline.data.sources.array_cache import Arrays, unusable_root
from pipeline.data.sources.columns.column import ColumnTable
from pipeline.data.sources.columns.decoding import ABOUT, decode
from pipeline.data.sources.columns.field_plan import Wanted
from pipeline.data.sources.decode_subprocess import one_line, reported_errors, run_child
from pipeline.errors import UserError

MODULES = {Source.torchvision: "lightning_impl.data.library", Source.tfds: "flax_impl.data.library"}


def decode_columns(config: LibraryConfig, wanted: Wanted, out: Path) -> Arrays:
    """Read a data set with the library `config.source`; return the arrays of `decode`, mapped from `out`."""
    fields = None if wanted is None else sorted(wanted)
    request = json.dumps({"config": plain(config), "wanted": fields})
    run_child(MODULES[config.source], ["--request", request, "--out", str(out)])
    return {
        file.stem: np.load(file, mmap_mode="r", allow_pickle=False) for file in out.glob("*.npy")
    }


def serve_columns(open_table: Callable[[LibraryConfig, Path], ColumnTable]) -> None:
    """Main function of the subprocess: open the table with its root, and write the arrays."""
    parser = argparse.ArgumentParser(description="Read a data set into plain .npy files.")
    parser.add_argument("--request", required=True, type=json.loads, help="JSON with the config")
    parser.add_argument("--out", required=True, type=Path, help="folder for the arrays")
    options = parser.parse_args()
    given, wanted = options.request["config"], options.request["wanted"]
    config = LibraryConfig(**given | {"source": Source[given["source"]]})
    root = Path(config.root).expanduser().absolute()
    with reported_errors():
        table = open_table(config, root)
        try:
            named = None if wanted is None else frozenset(wanted)
            arrays = decode(table, config, named, options.out)
            np.save(options.out / f"{ABOUT}.npy", arrays[ABOUT], allow_pickle=False)
        except OSError as error:  # the disk is full
            raise unusable_root(root, error, "dataset.root") from error


def read_sample(samples: Any, row: int, name: str) -> Any:
    """Return a sample of the data set `name`; raise a `UserError` if its file is broken."""
    try:
        return samples[row]
    except Exception as error:  # a broken file raises many kinds
        problem = f"sample {row} of {name} cannot be read: {one_line(error)}"
        raise UserError("dataset.name", name, problem=problem) from error
