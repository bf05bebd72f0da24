"""Numbers that are computed from a whole field; those of a large file are kept for later runs."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.data.sources.array_cache import load_or_build
from pipeline.data.sources.file_digest import digest_of
from pipeline.data.stored_rows import StoredRows
from pipeline.data.stratified_order import stratified_rows

SMALL = 2**26  # bytes that are read again in each run
MANY = 10**5  # labels whose order takes longer to compute than to read

Scanned = np.ndarray | StoredRows
Scan = Callable[..., np.ndarray]  # of a field


def scanned(field: Scanned, purpose: str, root: str, scan: Scan) -> np.ndarray:
    """Return what `scan` finds in a field; of a large file it is kept in the array cache below `root`.

    `purpose` tells it from all else that is computed from the same file.
    """
    array = field.array if isinstance(field, StoredRows) else field
    file = getattr(array, "filename", None)  # of a memory-mapped array, and of its views
    if file is None or array[:1].nbytes * len(field) < SMALL:
        return scan(field)
    rows: object = field.rows if isinstance(field, StoredRows) else None
    if isinstance(rows, np.ndarray):
        rows = hashlib.sha256(rows.tobytes()).hexdigest()
    shape = (array.shape, array.dtype.str, array.strides)
    label = f"scan-{digest_of([Path(file)], purpose, shape, rows)}-v1"
    cache = Path(root).expanduser().absolute()
    return load_or_build(cache, label, lambda _: {"found": scan(field)})["found"]


def kept_rows(labels: np.ndarray, rows: np.ndarray | None, root: str) -> np.ndarray:
    """Return the `stratified_rows`; those of many labels are kept in the array cache below `root`."""
    if len(labels) < MANY:
        return stratified_rows(labels, rows)
    # A digest of the rows is faster than taking the labels at them.
    of_rows = "" if rows is None else f"-{digest_of_array(rows)}"
    label = f"order-{labels.dtype}-{digest_of_array(labels)}{of_rows}-v1"
    cache = Path(root).expanduser().absolute()
    return load_or_build(cache, label, lambda _: {"order": stratified_rows(labels, rows)})["order"]


def digest_of_array(array: np.ndarray) -> str:
    """Return a hash of the content of an array."""
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()[:16]
