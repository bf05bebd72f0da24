"""Both frameworks in one process, on the CPU."""

import atexit
import gc
import os
from dataclasses import dataclass, replace

import jax
import pytest
import torch

import flax_impl.verify
import lightning_impl.verify
from pipeline.config.experiment import BackendConfig, Config
from pipeline.loggers.metrics_file import Row, read_metrics
from pipeline.run import transfer, transfer_worker
from pipeline.run.experiment import Job
from pipeline.run.runner import run as run_experiment
from pipeline.storage.run_folder import RunFolder
from pipeline.storage.run_result import RunResult

# Before JAX touches the first: tests of several devices share the processes of the others.
jax.config.update("jax_num_cpu_devices", 4)
# Most of the time of a small program is tracing, and a sixth of that are lines of Python for each operation.
jax.config.update("jax_traceback_in_locations_limit", 0)
jax.config.update("jax_traceback_filtering", "off")
gc.freeze()  # the modules of both frameworks stay: no collection has to walk through them
atexit.register(gc.unfreeze)  # else nanobind reports leaks

QUIET = "logger=none accelerator=cpu train.log_every=1"


@dataclass(frozen=True)
class Finished:
    """Metrics rows and result of a finished run."""

    rows: list[Row]
    result: RunResult


@pytest.fixture(autouse=True)
def shared_machine(monkeypatch):
    """One torch thread and no progress; settings of the process are restored after the test."""
    x64, threads = jax.config.jax_enable_x64, torch.get_num_threads()
    torch.set_num_threads(1)
    jax.config.update(
        "jax_enable_x64", False
    )  # runs of other tests in this process may have set it
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_compilation_cache_dir", os.environ["TANDEM_CACHE"])
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    monkeypatch.setenv("TANDEM_PROGRESS", "none")
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"])  # a run adds to them
    yield
    torch.set_num_threads(threads)
    if torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(False)
    jax.config.update("jax_enable_x64", x64)


@pytest.fixture
def on_two(configure):
    """A function that composes an experiment for two options of `backend`."""

    def configured(overrides: str, *options: str) -> dict[str, Config]:
        return {
            option: configure(f"{overrides} backend={option}")
            for option in options or ("torch", "jax")
        }

    return configured


@pytest.fixture
def verify_settings(shared_machine):
    """Settings of both frameworks that `pipeline.verify` changes, restored after the test."""
    names = ("enable_x64", "platforms", "compilation_cache_dir", "persistent_cache_min_compile_time_secs",
             "persistent_cache_min_entry_size_bytes")  # fmt: skip
    before = {f"jax_{name}": getattr(jax.config, f"jax_{name}") for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    torch.set_default_dtype(torch.float32)
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def verify_workers(verify_settings):
    """Both frameworks as the workers of `pipeline.verify` prepare them."""
    flax_impl.verify.prepare(1)
    lightning_impl.verify.prepare(1)


@pytest.fixture
def torch_float64():
    """Let torch make float64 tensors where nothing else is said."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def float64():
    """Let JAX make float64 arrays."""
    jax.config.update("jax_enable_x64", True)


@pytest.fixture
def one_process(monkeypatch):
    """Let exports, imports and initial values be made in this process, which has loaded both frameworks."""
    monkeypatch.setattr(transfer, "_run_worker", lambda *arguments: transfer_worker.work(arguments))


@pytest.fixture
def run(configure, tmp_path, one_process):
    """A function that trains and tests one experiment on both backends, as `python run.py` does."""

    def both(overrides: str) -> tuple[Finished, Finished]:
        config, finished = configure(f"{QUIET} {overrides}"), []
        for backend in ("torch", "jax"):
            folder = tmp_path / backend
            config = replace(config, backend=BackendConfig(name=backend))
            assert run_experiment(config, Job(folder, backend)) == 0
            rows = read_metrics(folder / "metrics.jsonl")
            finished.append(Finished(rows, RunFolder(folder).result))
        return tuple(finished)

    return both


@pytest.fixture
def train(configure, tmp_path, one_process):
    """A function that runs an experiment in a folder of that name, and returns its exit code."""

    def trained(name: str, backend: str, overrides: str) -> int:
        config = configure(f"{overrides} backend={backend}")
        return run_experiment(config, Job(tmp_path / name, name))

    return trained
