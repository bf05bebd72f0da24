"""What tests of several rooms share: a typed config from overrides, as a person would type them."""

import os
from functools import cache
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from pipeline.config import Config, register, typed

ROOT = Path(__file__).resolve().parent.parent

# Before torch or jax is imported, and for the processes that tests start: waiting OpenMP threads
# must not spin on a shared machine, and JAX's compiled programs are kept out of the home folder.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TANDEM_CACHE", str(ROOT / ".pytest_cache" / "tandem"))


@pytest.fixture(scope="session")
def configure():
    """A function that gives the typed config of overrides such as `"model=mlp seed=1"`."""
    register()

    @cache
    def configured(overrides: str = "") -> Config:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            return typed(compose("config", overrides.split()))

    return configured
