"""Reading of a raw image data set, the same for torchvision and TFDS."""

from pathlib import Path
from types import ModuleType

import numpy as np

from pipeline.data.sources.decode_subprocess import download_failed, one_line
from pipeline.errors import UserError


def read_raw_files(
    library: ModuleType, name: str, root: Path, download: bool
) -> dict[str, np.ndarray]:
    """Return all arrays of a data set.

    Args:
        library: the module `lightning_impl.data.sources` or its twin, whose functions it calls.
        name: a key of `library.SETS`.
        root: the folder with the raw files.
        download: True to download missing files first.

    Returns:
        `train_inputs` and `test_inputs`, uint8 [n, height, width, channels]; `train_targets` and
        `test_targets`, int64 [n]; `classes`, str [classes], their names.

    Raises:
        UserError: the files are missing or damaged, or the download failed.
    """
    by_hand = library.by_hand(name, root)
    if download:
        try:
            library.fetch(name, root)
        except Exception as error:  # a network or a broken archive raises many kinds
            library.check(name, root, error)
            raise download_failed(name, error, by_hand) from error
    elif problem := library.missing(name, root):
        hint = f"Type dataset.download=true to fetch them. {by_hand}"
        raise UserError("dataset.root", root, problem=problem, hint=hint)
    arrays = {}
    try:
        for part in ("train", "test"):
            inputs, targets, classes = library.split(name, root, part)
            arrays |= {f"{part}_inputs": inputs, f"{part}_targets": targets}
    except Exception as error:  # a broken file raises many kinds
        library.check(name, root, error)
        folder = library.folder_of(name, root)
        problem = f"the files of {name} in {folder} are {library.DAMAGED}: {one_line(error)}"
        hint = f"Delete {folder} and type dataset.download=true. {by_hand}"
        raise UserError("dataset.root", root, problem=problem, hint=hint) from error
    return arrays | {"classes": np.array(classes)}
