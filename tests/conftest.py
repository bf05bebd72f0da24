"""Fixture shared by all tests: a typed config, composed from overrides of the command line."""

import os
import signal
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cache
from importlib.metadata import version
from pathlib import Path
from platform import machine

import pytest
import warm_start
from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, settings
from omegaconf import DictConfig

from pipeline.config.experiment import Config, register, typed
from pipeline.config.hydra_compat import ConfigLoaderImpl, compose_from

ROOT = Path(__file__).resolve().parents[1]

pytest.register_assert_rewrite("asserts")  # so that a failure shows the values

# Before torch or jax is imported, and for the processes that tests start: waiting OpenMP threads
# must not spin on a shared machine, and JAX's compiled programs are kept out of the home folder.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("TANDEM_CACHE", str(ROOT / ".pytest_cache" / "tandem"))
# Tests compile many programs and run each for a few steps: optimizing them takes most of the time. Level 0
# takes a quarter of level 1, but rounds the same expression differently in two kernels, with and without
# a fused multiply-add. The gradient of a maximum then does not find the maximum: hence no such instructions.
XLA_FLAGS = [
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",  # tests run side by side
]
known = version("jaxlib").startswith("0.10.")  # a later one ends the process at an unknown flag
if known:
    XLA_FLAGS += ["--xla_cpu_use_fusion_emitters=false"]  # half the time of a compilation
if known and machine() == "x86_64":
    XLA_FLAGS += ["--xla_backend_optimization_level=0", "--xla_cpu_max_isa=AVX"]
else:
    XLA_FLAGS += ["--xla_backend_optimization_level=1"]
os.environ.setdefault("XLA_FLAGS", " ".join(XLA_FLAGS))
# Inductor would compile a program for each kind of vector instructions, to see if it runs: 4 s of 20.
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")


GPU_MARKS = ("gpu", "gpus")


def pytest_configure(config):
    """Hide the GPUs, unless tests that need them are chosen; let Ctrl-C reach what tests start."""
    if config.option.markexpr not in GPU_MARKS:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if (
        signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    ):  # as a shell starts what is in the background
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config, items):
    """Skip the tests that need a GPU, unless they are chosen."""
    for mark in GPU_MARKS:
        if config.option.markexpr != mark:
            for item in items:
                if item.get_closest_marker(mark):
                    item.add_marker(pytest.mark.skip(reason=f"needs a GPU: pytest -m {mark}"))


# On a busy machine any example may wait longer than Hypothesis allows by default.
settings.register_profile("tandem", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tandem")


def override_config(composed: Callable[..., DictConfig], overrides: Sequence[str]) -> DictConfig:
    """Compose overrides; those with the same options of groups share one composition of 0.1 s."""
    loader = GlobalHydra.instance().config_loader()
    assert isinstance(loader, ConfigLoaderImpl)
    keys, options = [], []
    for override in OverridesParser.create().parse_overrides(list(overrides)):
        key = override.key_or_group
        is_option = key.startswith("hydra.") or loader.repository.group_exists(key)
        (options if is_option else keys).append(override)
    config = deepcopy(composed(*(str(option.input_line) for option in options)))
    ConfigLoaderImpl._apply_overrides_to_config(keys, config)
    return config


@pytest.fixture(scope="session")
def configure():
    """A function that composes the typed config of overrides such as `"model=mlp seed=1"`."""
    register()

    @cache
    def composed(*options: str) -> DictConfig:
        return compose("config", [*options])

    @cache
    def configured(overrides: str = "") -> Config:
        with compose_from(ROOT / "conf"):
            return typed(override_config(composed, overrides.split()))

    return configured


@pytest.fixture
def warm_processes(monkeypatch):
    """Let what the product starts in this process be forked where that is equivalent; see `warm_start`."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    started = warm_start.Subprocess(warm_start.forker_of("whole"))
    for name in warm_start.STARTERS:
        monkeypatch.setattr(f"{name}.subprocess", started)
