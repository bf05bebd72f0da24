from collections.abc import Mapping
from hashlib import sha256

import numpy as np


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 over names, types, shapes and bytes, in the order of the names."""
    summary = sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        summary.update(f"{name}:{array.dtype}:{array.shape}".encode())
        summary.update(array.tobytes())
    return summary.hexdigest()
