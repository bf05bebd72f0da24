"""Compilation of a run's training step for H100s that this machine lacks.

JAX's CUDA plugin compiles for a card that is described to it. That tells the kernels, the communication and
the memory, and no time.
"""

import os
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import jax
import numpy as np
from jax.experimental.topologies import get_topology_desc
from jax.sharding import Mesh

import flax_impl.data.samples
import flax_impl.sharding
from flax_impl.backend import starting_state
from flax_impl.data.batches import TrainBatches
from flax_impl.device import DATA, Device, prepare
from flax_impl.gpu import set_deterministic_flags
from flax_impl.sharding import shard, shardings
from flax_impl.training.step import StepContext, make_train_step
from pipeline.config.accelerator import Strategy
from pipeline.config.experiment import Config
from pipeline.data.batch_plan import make_batch_plan
from pipeline.data.sources import load
from pipeline.run.experiment import Experiment
from pipeline.run.recording.recorder import Recorder

H100 = (Path(__file__).parent / "h100.txtpb").read_text()
STEPS = 2  # of one compiled call: a loop, as on any GPU

os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"  # there is no driver


class Program:
    """A compiled training step of several H100s."""

    def __init__(self, compiled: jax.stages.Compiled) -> None:
        self.text, self.memory = compiled.as_text(), compiled.memory_analysis()

    def count(self, operation: str) -> int:
        """Number of operations of a kind, as `all-reduce`; one that is started and awaited is one."""
        return len(re.findall(rf" {operation}(?:-start)?\(", self.text))

    def calls(self, target: str) -> int:
        """Number of calls of a library whose name begins so."""
        return len(re.findall(rf'custom_call_target="{re.escape(target)}', self.text))

    def meanwhile(self) -> list[int]:
        """Number of kernels between the start and the end of each communication."""
        lines, found = self.text.splitlines(), []
        for at, line in enumerate(lines):
            name = re.match(r"\s*%?([\w-]+-start[\w.]*) = ", line)
            if not (
                name and re.search(r" (all-reduce|all-gather|reduce-scatter|async)-start\(", line)
            ):
                continue
            own = re.compile(rf"-done\(%?{re.escape(name[1])}\)")
            kernels = 0
            for later in lines[at + 1 :]:
                if own.search(later):
                    break
                kernels += " fusion(" in later or " custom-call(" in later
            found.append(kernels)
        return found

    @property
    def temporary_mb(self) -> float:
        """Memory that a step takes on each device, beside state and batches."""
        return self.memory.temp_size_in_bytes / 2**20

    @property
    def argument_mb(self) -> float:
        """Memory of state and batches on each device."""
        return self.memory.argument_size_in_bytes / 2**20


@cache
def h100s(count: int) -> Mesh:
    """A mesh of H100s."""
    topology = get_topology_desc(platform="cuda", target_config=H100, topology=f"1x{count}x1")
    return Mesh(np.array(topology.devices), (DATA,))


def device_of(config: Config, count: int) -> Device:
    """Describe the devices of a run on H100s, with the settings of JAX that it makes."""
    on_cpu = replace(config, accelerator=replace(config.accelerator, devices=1))
    return replace(
        prepare(on_cpu),
        kind="gpu",
        steps_per_call=STEPS,
        mesh=h100s(count),
        sharded=config.accelerator.strategy is Strategy.fsdp and count > 1,
    )


def compiler_options(config: Config) -> dict[str, bool]:
    """Flags that a run on a GPU gives XLA; in the environment they would come too late."""
    before = os.environ["XLA_FLAGS"]
    os.environ["XLA_FLAGS"] = ""
    if config.accelerator.deterministic:
        set_deterministic_flags(gpu=True)
    flags, os.environ["XLA_FLAGS"] = os.environ["XLA_FLAGS"], before
    named = (flag.removeprefix("--").split("=") for flag in flags.split())
    return {name: value == "true" for name, value in named}


def compile_step(config: Config, count: int = 1, **options: bool | int) -> Program:
    """Compile the training step of a run on so many H100s; `options` are further flags of XLA."""
    plan = make_batch_plan(config, load(config.dataset, config.task))
    device = device_of(config, count)
    experiment = Experiment(config, plan, Recorder(config, plan.data), None)
    begin, arrays, _ = starting_state(experiment, device)
    shapes = jax.eval_shape(begin, *arrays)
    state = jax.tree.map(_placed, shapes, shardings(shapes, device))
    originals = flax_impl.sharding.put_on_devices
    for module in (flax_impl.sharding, flax_impl.data.samples):
        module.put_on_devices = _placed
    try:
        batches = TrainBatches(plan, device, config.train.accumulate)(0, STEPS)
        rates = shard(np.full(STEPS, 0.1, device.dtype), device)
    finally:
        for module in (flax_impl.sharding, flax_impl.data.samples):
            module.put_on_devices = originals
    step = make_train_step(StepContext(config, plan, device))
    flags = compiler_options(config) | options
    return Program(step.lower(state, *batches, rates).compile(flags))


def _placed(array, sharding) -> jax.ShapeDtypeStruct:
    """Return the shape of an array on devices that hold none, in the place of `put_on_devices`."""
    return jax.ShapeDtypeStruct(array.shape, getattr(array, "dtype", np.uint8), sharding=sharding)
