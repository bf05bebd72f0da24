"""Random numbers that a user's own model draws natively: runs that train at once would share them."""

from collections.abc import Generator
from contextlib import contextmanager

from pipeline.config.experiment import Config
from pipeline.config.models import OwnConfig
from pipeline.config.train import Randomness
from pipeline.rng import state_of_global_generators


class TrainsAlone(Exception):
    """Runs cannot train at once; the message says why, as a clause."""


def shared_draws() -> TrainsAlone:
    """Return the error for an own model that draws."""
    return TrainsAlone(
        "layers of model=own draw numbers that would be shared; set train.randomness=shared"
    )


def must_not_draw(config: Config) -> bool:
    """Return whether runs train at once only if their model draws nothing."""
    return isinstance(config.model, OwnConfig) and config.train.randomness is Randomness.native


@contextmanager
def refusing_global_draws(config: Config) -> Generator[None]:
    """Refuse an own model that draws from the global generators of Python or NumPy within."""
    before = state_of_global_generators()
    yield
    if must_not_draw(config) and state_of_global_generators() != before:
        raise shared_draws()
