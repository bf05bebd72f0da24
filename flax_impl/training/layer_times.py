"""Time of layers in training steps, from a trace of JAX's profiler."""

import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import jax
import numpy as np

from flax_impl.data.batches import TrainBatches
from flax_impl.device import Device
from flax_impl.layers import Layout
from flax_impl.sharding import shard
from flax_impl.training.step import StepContext, make_train_step
from flax_impl.training.train_state import TrainState
from pipeline.bench.timing.recorder import STEPS, WARMUP
from pipeline.run.backends import LAYERS_REST, LAYERS_ROOT, LAYERS_UNNAMED, LayerTimes
from pipeline.run.experiment import Experiment

# In the text of a compiled program: an instruction, the names of the scopes that it comes from, and the
# computations, each a block of instructions.
INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = ")
SCOPE = re.compile(r'op_name="([^"]*)"')
COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
CALLED = re.compile(r"\bcalls=%?([\w.\-]+)")
CONTROL = re.compile(r"(while|call|conditional)[.\d]*")  # they last as long as what they run


def time_layers(
    experiment: Experiment, device: Device, state: TrainState, layout: Layout
) -> LayerTimes:
    """Trace a few training steps; return the seconds of each layer in one step, forward and backward.

    They are those of the instructions of the compiled program; what was fused counts for the layer of its
    last operation.
    """
    config, plan = experiment.config, experiment.plan
    rates = shard(np.zeros(1, device.dtype), device)
    with (
        closing(TrainBatches(plan, device, config.train.accumulate)) as batches,
        tempfile.TemporaryDirectory() as folder,
    ):
        steps = make_train_step(StepContext(config, plan, device))
        program = steps.lower(state, *batches(0, 1), rates).compile()
        for step in range(WARMUP + STEPS):
            if step == WARMUP:
                jax.block_until_ready(state)
                jax.profiler.start_trace(folder)
            state, _ = program(state, *batches(step, 1), rates)
        jax.block_until_ready(state)
        jax.profiler.stop_trace()
        seconds = dict(_seconds(Path(folder)))
    names = _canonical_modules(layout)
    scopes = _scopes(program.as_text() or "")
    found: dict[str, list[float]] = {}
    for instruction, lasted in seconds.items():
        layer, is_backward = _layer(scopes.get(instruction, ""), names)
        found.setdefault(layer, [0.0, 0.0])[is_backward] += lasted / STEPS
    return {name: (forward, backward) for name, (forward, backward) in found.items()}


def _scopes(text: str) -> Mapping[str, str]:
    """Return the scope of each instruction; of a fusion without one that of the last in it that has one."""
    scopes: dict[str, str] = {}
    inside: dict[str, str] = {}  # the last scope in each computation; those called come first
    computation = ""
    for line in text.splitlines():
        if begins := COMPUTATION.match(line):
            computation = begins[1]
        elif instruction := INSTRUCTION.match(line):
            own, called = SCOPE.search(line), CALLED.search(line)
            scope = own[1] if own else inside.get(called[1], "") if called else ""
            if scope:
                scopes[instruction[1]] = inside[computation] = scope
    return scopes


def _seconds(folder: Path) -> Iterator[tuple[str, float]]:
    """Yield the instructions in a trace, each with the seconds of all its executions."""
    sums: dict[str, float] = {}
    for file in folder.rglob("*.xplane.pb"):
        for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
            for line in plane.lines:
                for event in line.events:
                    name = dict(event.stats).get("hlo_op")
                    if isinstance(name, str) and not CONTROL.fullmatch(name):
                        sums[name] = sums.get(name, 0.0) + event.duration_ns / 1e9
    yield from sums.items()


def _canonical_modules(layout: Layout) -> Mapping[tuple[str, ...], str]:
    """Map the paths of Flax modules to canonical names, with those around them if both have one path."""
    found: dict[tuple[str, ...], str] = {}
    for path, place in layout.items():
        module, layer = path[:-1], place.name.rpartition(".")[0]
        found[module] = layer
        for depth in range(1, len(module)) if ".".join(module) == layer else ():
            found.setdefault(module[:depth], ".".join(module[:depth]))
    return found


def _layer(scope: str, names: Mapping[tuple[str, ...], str]) -> tuple[str, bool]:
    """Return the layer of an instruction, and whether it belongs to the backward pass.

    A scope is like `jit(steps)/transpose(jvp(Net))/conv1/mul`: the parts after the model's name are Flax's
    path to the module.
    """
    if not scope:
        return LAYERS_UNNAMED, False
    parts = scope.split("/")
    start = next((at for at, part in enumerate(parts) if re.search(r"jvp\(\w+\)", part)), None)
    is_backward = "transpose(" in scope
    if start is None:
        return LAYERS_REST, is_backward
    inside = [part for part in parts[start + 1 :] if "(" not in part and "checkpoint" not in part]
    for depth in range(len(inside), 0, -1):
        if (layer := names.get(tuple(inside[:depth]))) is not None:
            return layer, is_backward
    return LAYERS_ROOT, is_backward
