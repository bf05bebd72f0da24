"""Random numbers keyed by the seed and their purpose, independent of the order of draws."""

import random
from hashlib import sha256

import numpy as np


def generator(seed: int, *purpose: object) -> np.random.Generator:
    """Return a counter-based generator (Philox, Salmon et al. 2011) keyed by the seed and its purpose.

    The same (seed, purpose) gives the same numbers on every backend and after every resume.
    """
    return np.random.Generator(np.random.Philox(key=int.from_bytes(_hash(seed, *purpose)[:16])))


def key_words(seed: int, *purpose: object) -> tuple[int, int]:
    """Return two 32-bit words that key a generator on a device."""
    digest = _hash(seed, *purpose)
    return int.from_bytes(digest[:4]), int.from_bytes(digest[4:8])


def seed_global_generators(seed: int) -> None:
    """Seed the global generators of Python and NumPy, with which a user's model may draw its weights."""
    word, _ = key_words(seed, "weights")
    random.seed(word)
    np.random.seed(word)


def _hash(seed: int, *purpose: object) -> bytes:
    return sha256("/".join(map(str, (seed, *purpose))).encode()).digest()
