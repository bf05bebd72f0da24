"""Fields stored in files, read by threads ahead of the step that takes their batch."""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple, Self

import numpy as np

from pipeline.data.stored_images import StoredImages
from pipeline.data.stored_rows import StoredRows

AHEAD = 3  # batches in preparation, or waiting, beside the one that is taken
PARTS = 4  # of a batch for each thread, so that all end at about the same time


class RowRequest(NamedTuple):
    """Rows of stored fields for one batch."""

    rows: np.ndarray  # int64 [n], indices into the split
    # Random numbers of the augmentation of each field, if it is augmented; see `StoredImages.take`.
    words: Mapping[str, np.ndarray]


class _Pending(NamedTuple):
    """A batch in preparation: its arrays, and the threads' work on them."""

    arrays: dict[str, np.ndarray]
    parts: list[Future[None]]


class Prefetcher:
    """Reads the stored fields of batches ahead, in threads; without such a field it does nothing.

    Pillow and NumPy release the interpreter's lock while they resample and copy, so threads suffice. Each
    batch is a function of its number alone, so a resumed run gets the same bytes.

    Args:
        fields: fields of the split that are stored in a file, by name.
        request: maps the number of a batch to its rows.
        count: number of batches; None if they never end.
    """

    def __init__(
        self,
        fields: Mapping[str, StoredImages | StoredRows],
        request: Callable[[int], RowRequest],
        count: int | None = None,
    ) -> None:
        self.fields, self.request, self.count = fields, request, count
        chosen = [field.threads for field in fields.values() if field.threads]
        self.threads = max(chosen, default=len(os.sched_getaffinity(0)))
        self._pool: ThreadPoolExecutor | None = None
        self._pending: dict[int, _Pending] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop what is in preparation, and end the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
        self._pool, self._pending = None, {}

    def __call__(self, number: int) -> dict[str, np.ndarray]:
        """Return the samples of a batch by field, and begin the next ones."""
        if not self.fields:
            return {}
        end = number + 1 + AHEAD if self.count is None else min(number + 1 + AHEAD, self.count)
        for other in [other for other in self._pending if not number <= other < end]:
            for part in self._pending.pop(other).parts:
                part.cancel()
        for wanted in range(number, end):
            if wanted not in self._pending:
                self._pending[wanted] = self._begin(self.request(wanted))
        arrays, parts = self._pending.pop(number)
        wait(parts)
        for part in parts:
            part.result()  # raises its error
        return arrays

    def _begin(self, request: RowRequest) -> _Pending:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self.threads, "stored fields")
        rows, words = request
        pending = _Pending({}, [])
        step = max(1, -(-len(rows) // (PARTS * self.threads)))
        for name, field in self.fields.items():
            arrays = pending.arrays[name] = np.empty((len(rows), *field.shape[1:]), field.dtype)
            for start in range(0, len(rows), step):
                part = slice(start, start + step)
                drawn = words[name][part] if name in words else None
                pending.parts.append(self._pool.submit(field.fill, arrays[part], rows[part], drawn))
        return pending
