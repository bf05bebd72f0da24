"""Random numbers that depend on what they are for, never on when they are drawn."""

from hashlib import sha256

import numpy as np


def generator(seed: int, *purpose: object) -> np.random.Generator:
    """A counter-based generator (Philox, Salmon et al. 2011) keyed by the seed and its purpose.

    The same (seed, purpose) gives the same numbers on every backend and after every resume.
    """
    key = "/".join(map(str, (seed, *purpose)))
    return np.random.Generator(
        np.random.Philox(key=int.from_bytes(sha256(key.encode()).digest()[:16]))
    )
