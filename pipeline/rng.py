"""Random numbers keyed by the seed and their purpose, independent of the order of draws."""

import pickle
import random
from functools import lru_cache
from hashlib import sha256

import numpy as np


def generator(seed: int, *purpose: object) -> np.random.Generator:
    """Return a counter-based generator (Philox, Salmon et al. 2011) keyed by the seed and its purpose.

    The same (seed, purpose) gives the same numbers on every backend and after every resume.
    """
    return np.random.Generator(np.random.Philox(key=int.from_bytes(_hash(seed, *purpose)[:16])))


@lru_cache(maxsize=64)
def random_keys(count: int, seed: int, *purpose: object) -> np.ndarray:
    """Return keys for `random_words`: uint64 [count], read-only."""
    # NumPy guarantees the raw stream of Philox, but not the methods of Generator.
    keys = generator(seed, *purpose).bit_generator.random_raw(count)
    keys.flags.writeable = False
    return keys


def random_words(keys: np.ndarray | np.uint64, counters: np.ndarray) -> np.ndarray:
    """Return 64 random bits for each counter, which depend only on it and its key: uint64.

    They are those of SplitMix64 (Steele, Lea and Flood 2014), started at the key. `keys` and `counters`
    are uint64, and broadcast.
    """
    words = counters * np.uint64(0x9E3779B97F4A7C15) + keys
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words


def key_words(seed: int, *purpose: object) -> tuple[int, int]:
    """Return two 32-bit words that key a generator on a device."""
    digest = _hash(seed, *purpose)
    return int.from_bytes(digest[:4]), int.from_bytes(digest[4:8])


def seed_global_generators(seed: int) -> None:
    """Seed the global generators of Python and NumPy, with which a user's model may draw its weights."""
    word, _ = key_words(seed, "weights")
    random.seed(word)
    np.random.seed(word)


def state_of_global_generators() -> tuple[object, ...]:
    """Return what tells whether anything was drawn from them."""
    return random.getstate(), pickle.dumps(np.random.get_state())


def _hash(seed: int, *purpose: object) -> bytes:
    return sha256("/".join(map(str, (seed, *purpose))).encode()).digest()
