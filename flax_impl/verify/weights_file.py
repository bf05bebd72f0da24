"""Read a file of weights as Flax writes it: a tree of arrays in MessagePack.

python -m flax_impl.verify.weights_file FILE TARGET.npz
"""

import sys
from pathlib import Path

import numpy as np
from flax.serialization import msgpack_restore
from flax.traverse_util import flatten_dict

PARAMS = "params"


def read(path: Path) -> dict[str, np.ndarray]:
    """Return the floats of a file by dotted path, without the names of collections.

    Raises:
        ValueError: it holds no arrays by name.
    """
    try:
        content = msgpack_restore(path.read_bytes())
    except Exception as error:  # of MessagePack, for bytes of any other kind: of any type
        raise ValueError("it is damaged, cut off, or no file of flax.serialization") from error
    flat = flatten_dict(content) if isinstance(content, dict) else {}
    has_collections = isinstance(content, dict) and PARAMS in content
    arrays = {
        ".".join(map(str, keys[has_collections:])): np.asarray(value)
        for keys, value in flat.items()
        if hasattr(value, "dtype")
    }
    if not arrays:
        raise ValueError("it holds no arrays by name: save flax.serialization.to_bytes(variables)")
    return {n: a.astype(np.float64) for n, a in arrays.items() if a.dtype.kind in "fV"}


if __name__ == "__main__":
    np.savez(sys.argv[2], **read(Path(sys.argv[1])))  # pyrefly: ignore[bad-argument-type]
