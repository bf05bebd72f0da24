"""Models without their numbers: names and shapes of parameters."""

import time
from collections.abc import Sequence
from math import prod
from pathlib import Path

from benchmarks.scaling_probes.case import Values
from benchmarks.scaling_probes.training import compose, own_memory_mb
from pipeline.config.experiment import Config
from pipeline.data import sources
from pipeline.data.batch_plan import BatchPlan, make_batch_plan
from pipeline.devices.world import ALONE
from pipeline.run import backends
from pipeline.run.experiment import Experiment
from pipeline.run.recording.recorder import Recorder


def make_shapes(backend: str, overrides: Sequence[str], folder: Path) -> Values:
    """Make a model; return CPU milliseconds and memory, and check the count of parameters."""
    config = compose([f"backend={backend}", *overrides])
    plan = make_batch_plan(config, sources.load(config.dataset, config.task))
    backends.load(backend)
    before = time.process_time()
    found = {"torch": torch_shapes, "jax": jax_shapes}[backend](config, plan, folder)
    seconds = time.process_time() - before
    width = config.model.width
    assert sum(map(prod, found.values())) >= 24 * width * width
    return {"made ms": 1000 * seconds, "own MB": own_memory_mb()}


def torch_shapes(config: Config, plan: BatchPlan, folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of torch's parameters on the meta device."""
    import torch

    from lightning_impl.models import build_model
    from pipeline.training.model_checks import fill_from_data

    del folder
    data = plan.data
    with torch.device("meta"):
        model = build_model(fill_from_data(config.model, data), data.input_shape, data.outputs)
    return {name: tuple(values.shape) for name, values in model.named_parameters()}


def jax_shapes(config: Config, plan: BatchPlan, folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of JAX's parameters by canonical name."""
    from flax_impl.backend import _make_model, prepare

    experiment = Experiment(config, plan, Recorder(config, plan.data), folder)
    *_, layout = _make_model(experiment, prepare(config, ALONE))
    return {name: tuple(place.shape) for name, place in layout.items()}
