"""Time of layers in training steps, from a trace of torch's profiler."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace

from torch import nn
from torch.autograd.profiler import record_function
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, supported_activities

from lightning_impl.checkpoints import CheckpointFiles
from lightning_impl.device import Device
from lightning_impl.training.compiled_layers import named_kernels
from lightning_impl.training.loop import train
from lightning_impl.training.step import TrainingModule
from pipeline.bench.timing.recorder import STEPS, Enough, TracedSteps
from pipeline.errors import RunFailed
from pipeline.run.backends import LAYERS_REST, LayerTimes
from pipeline.run.experiment import Experiment

LAYER = "layer:"  # how the name of a layer's range in the trace begins
BACKWARD = "autograd::engine::evaluate_function"  # … and that of a node of the backward pass


def time_layers(experiment: Experiment, device: Device, module: TrainingModule) -> LayerTimes:
    """Trace a few training steps; return the seconds of each layer in one step, forward and backward.

    On a CPU they are those of the operations and of Python between them, on a GPU those of its kernels.

    Raises:
        RunFailed: the kernels of the compiled model cannot be told apart.
    """
    config, model = experiment.config, module.model
    is_compiled = config.backend.compile
    if is_compiled and device.kind == "gpu" and config.backend.mode != "default":
        raise RunFailed("CUDA graphs of compiled torch call all kernels at once")
    trace = profile(
        activities={ProfilerActivity.CPU, ProfilerActivity.CUDA} & supported_activities()
    )
    naming = named_kernels(model, LAYER) if is_compiled else nullcontext(lambda: None)
    with naming as name_kernels:

        def start() -> None:
            name_kernels()
            trace.start()

        recorder = TracedSteps(config, experiment.plan.data, start, trace.stop)
        module.recorder = recorder
        # A hook of a module inside would be compiled with it.
        modules = {"": model} if is_compiled else dict(model.named_modules())
        with _marked(modules), suppress(Enough):
            train(replace(experiment, recorder=recorder), device, module, CheckpointFiles())
    own = "self_device_time_total" if device.kind == "gpu" else "self_cpu_time_total"
    # Kernels have events of their own, and count for the operation that starts them.
    events = [event for event in trace.events() or [] if event.device_type.name == "CPU"]
    return _sums(sorted(events, key=lambda event: event.time_range.start), own)


@contextmanager
def _marked(modules: Mapping[str, nn.Module]) -> Generator[None]:
    """Put the calls of modules that have parameters into ranges of the trace."""
    open_ranges: list[record_function] = []
    handles = []

    def mark(name: str, module: nn.Module) -> None:
        def begin(*args: object) -> None:
            open_ranges.append(record_function(f"{LAYER}{name}"))
            open_ranges[-1].__enter__()

        def end(*args: object) -> None:
            open_ranges.pop().__exit__(None, None, None)

        handles.append(module.register_forward_pre_hook(begin))
        handles.append(module.register_forward_hook(end))

    for name, module in modules.items():
        if any(True for _ in module.parameters()):
            mark(name, module)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _sums(events: Sequence[FunctionEvent], own: str) -> LayerTimes:
    """Sum the times of events, ordered by their start, by layer.

    A node of the backward pass has the number that the operation of the forward pass had which made it: the
    last one to start with it.
    """
    layers: dict[int, str] = {}
    found: dict[str, list[float]] = {}
    for event in events:
        chain = list(_ancestors(event))
        layer = next((e.name.removeprefix(LAYER) for e in chain if e.name.startswith(LAYER)), None)
        node = next((e for e in chain if e.name.startswith(BACKWARD)), None)
        if node is None and layer is not None and event.sequence_nr >= 0:
            layers[event.sequence_nr] = layer
        elif node is None and event.sequence_nr >= 0:
            layers.pop(event.sequence_nr, None)
        elif node is not None and layer is None:
            layer = layers.get(node.sequence_nr)
        sums = found.setdefault(LAYERS_REST if layer is None else layer, [0.0, 0.0])
        sums[node is not None] += getattr(event, own) / 1e6 / STEPS
    return {name: (forward, backward) for name, (forward, backward) in found.items()}


def _ancestors(event: FunctionEvent) -> Iterator[FunctionEvent]:
    """Yield an event, and those around it from the inside."""
    around: FunctionEvent | None = event
    while around is not None:
        yield around
        around = around.cpu_parent
