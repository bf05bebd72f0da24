"""A listing that one rank of a run makes for all: a folder may hold a million files."""

import os
import shutil
import time
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np

from pipeline.data.sources.array_cache import Arrays, load_or_build
from pipeline.data.sources.folder.listing import Listing
from pipeline.job_context import job_context

SLURM_STEP = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
KEPT = 24 * 3600  # seconds until the listing of another run is removed


def shared_listing(cache: Path, identity: object, make: Callable[[], Listing]) -> Listing:
    """Return what `make` returns; of several ranks that start together one calls it.

    It lies in the array cache below `cache`, by the launch of the ranks and `identity`.
    """
    launch = launch_of(os.environ)
    if launch is None:
        return make()
    label = f"listing-{sha256(repr((launch, identity)).encode()).hexdigest()[:16]}-v1"

    def build(scratch: Path) -> Arrays:
        remove_old(cache / "cache")
        return packed(make())

    return unpacked(load_or_build(cache, label, build, "dataset.cache"))


def launch_of(environment: Mapping[str, str]) -> str | None:
    """Return a name that the ranks of one start share, and no others; None for a single process."""
    if (launch := job_context().launch) is not None:
        return launch
    if int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return " ".join(environment.get(name, "") for name in SLURM_STEP)
    return None


def remove_old(folder: Path) -> None:
    """Remove the listings of earlier runs."""
    for old in folder.glob("listing-*-v1"):
        if time.time() - old.stat().st_mtime > KEPT:
            shutil.rmtree(old, ignore_errors=True)
            (folder / f"{old.name}.lock").unlink(missing_ok=True)


def packed(listing: Listing) -> Arrays:
    """Return a listing as arrays, without what is None."""
    texts = {"files": listing.files, "masks": listing.masks, "classes": listing.classes}
    texts |= {"digest": [listing.digest], "root": [str(listing.root)]}
    texts |= {"mask_root": [str(listing.mask_root)] if listing.mask_root else []}
    arrays = {name: np.frombuffer(os.fsencode("\0".join(t)), np.uint8) for name, t in texts.items()}
    given = {"labels": listing.labels, "splits": listing.splits}
    return arrays | {name: array for name, array in given.items() if array is not None}


def unpacked(arrays: Arrays) -> Listing:
    """Return the listing of `packed`."""
    names = ("files", "masks", "classes", "digest", "root", "mask_root")
    stored = {name: os.fsdecode(arrays[name].tobytes()) for name in names}
    texts = {name: text.split("\0") if text else [] for name, text in stored.items()}
    return Listing(
        Path(stored["root"]),
        texts["files"],
        arrays.get("labels"),
        tuple(texts["classes"]),
        arrays.get("splits"),
        stored["digest"],
        texts["masks"],
        Path(stored["mask_root"]) if stored["mask_root"] else None,
    )
