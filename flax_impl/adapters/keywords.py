"""Keywords by which a model is told if it trains, and given the key of its random numbers."""

import inspect
from collections.abc import Callable, Container

# Names under which models ask if they train, and the value that says they do.
TRAINING = {
    "train": True, "training": True, "is_training": True, "deterministic": False, "eval": False,
    "use_running_average": False, "inference": False, "eval_mode": False, "enable_dropout": True,
    "is_train": True, "is_eval": False,
}  # fmt: skip
# Names under which models ask for the key of their random numbers.
KEYS = ("key", "rng", "rng_key", "prng_key", "dropout_key", "dropout_rng")


def training_keywords(function: Callable, training: bool, given: Container[str] = ()) -> dict:
    """Return the keywords that tell a function whether it trains, as its signature has them."""
    names = inspect.signature(function).parameters
    found = {name: value == training for name, value in TRAINING.items() if name in names}
    return {name: value for name, value in found.items() if name not in given}
