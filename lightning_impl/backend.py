"""Functions of a backend that the core calls; see `pipeline.run.backends.Backend`."""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import lightning
import torch
from torch import nn

from lightning_impl.checkpoints import CheckpointFiles, read_best, read_checkpoint
from lightning_impl.device import Device, prepare
from lightning_impl.models import build_model
from lightning_impl.models.trained import TrainedModel, own_device
from lightning_impl.norms import convert_sync_batchnorm
from lightning_impl.state import from_portable, initial_state, shapes_of
from lightning_impl.training.evaluation import make_test
from lightning_impl.training.inference import make_inference
from lightning_impl.training.layer_times import time_layers
from lightning_impl.training.loop import evaluate
from lightning_impl.training.loop import train as train_loop
from lightning_impl.training.step import TrainingModule
from lightning_impl.training.step_trace import Watched
from lightning_impl.transfer import export_checkpoint, fill_module, import_checkpoint
from lightning_impl.vectorized.loop import Member, train_members
from pipeline.config.models import Initializer
from pipeline.rng import key_words, seed_global_generators
from pipeline.run.backends import LayerTimes, Test, Tested
from pipeline.run.continuation import carry_best
from pipeline.run.experiment import Experiment
from pipeline.run.start import initial_values as values
from pipeline.run.start.pretrained import start_from
from pipeline.storage.checkpoints import Checkpoint, check_shapes, first_readable
from pipeline.storage.portable_file import PortableCheckpoint
from pipeline.storage.portable_state import PortableState
from pipeline.storage.recorder_state import RecorderState
from pipeline.storage.run_folder import CHECKPOINTS
from pipeline.training.model_checks import fill_from_data
from pipeline.verify.names.names_file import names_of
from pipeline.verify.names.pieces import check_names

__all__ = [
    "adopt",
    "export",
    "inference",
    "initial",
    "layer_times",
    "prepare",
    "read_best",
    "test",
    "train",
    "train_together",
    "trained_model",
    "versions",
]  # fmt: skip

# Lightning advises more loader workers and tensor cores; both choices are made here on purpose.
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="lightning")


def train(experiment: Experiment, device: Device) -> None:
    """Train to the end of the run, from scratch or from a checkpoint.

    Raises:
        UserError: no checkpoint to resume from fits or can be read.
        Interrupted: a signal or `train.stop_after` ended the run; the state is saved.
        Diverged: the loss is not finite.
    """
    train_loop(experiment, device, *_start_state(experiment, device))


def train_together(experiments: Sequence[Experiment], device: Device) -> list[Exception | Test]:
    """Train runs that are alike, all at once.

    For each return the error that `train` would raise, or a function that tests a checkpoint.
    """
    members = [Member(experiment) for experiment in experiments]
    for member in members:
        with member.noting_failure():
            member.start(*_start_state(member.experiment, device))
    train_members(members, device)
    test = make_test(experiments[0], device, build(experiments[0], device))
    return [member.failure or test for member in members]


def _start_state(experiment: Experiment, device: Device) -> tuple[TrainingModule, CheckpointFiles]:
    """Return the module to start from, and a checkpoint's content, if any; the recorder continues there.

    A whole checkpoint on each process: it is kept only until Lightning has restored it.
    """
    module = build(experiment, device)
    content = resume = None
    if experiment.imported:
        content = _import_all(experiment, device, experiment.imported, module)
    elif experiment.resume:
        read = partial(read_checkpoint, template=module)
        resume, content = first_readable(
            experiment.resume, read, experiment.recorder.progress.message
        )
    if content:
        # Lightning restores the state too, but only after the digest of the starting state is taken.
        module.load_state_dict(content["state_dict"], strict=True)
        recorder_state = RecorderState.from_json(content["recorder"])
        experiment.recorder.restore(content["global_step"], recorder_state)
        if resume:
            carry_best(experiment, resume, device)
    return module, CheckpointFiles(content)


def test(
    experiment: Experiment, device: Device, checkpoint: Checkpoint | PortableCheckpoint
) -> Tested:
    """Return what the test of a checkpoint's weights finds."""
    module = build(experiment, device)
    if isinstance(checkpoint, PortableCheckpoint):
        fill_module(module, checkpoint)
    else:
        read = partial(read_checkpoint, template=module)
        _, content = first_readable([checkpoint], read, lambda message: None, "checkpoint")
        module.load_state_dict(content["state_dict"], strict=True)
    return evaluate(experiment, device, module)


def initial(experiment: Experiment, device: Device) -> PortableState:
    """Return the values at step 0 that a user's own model makes itself."""
    del device  # they are made on the CPU
    return initial_state(_make_model(experiment), experiment.config)


def inference(experiment: Experiment, device: Device) -> Callable[[], Mapping[str, float]]:
    """Return a function that infers the next batch of training samples, and returns its sums."""
    return make_inference(experiment, device, build(experiment, device))


def layer_times(experiment: Experiment, device: Device) -> LayerTimes:
    """Return the times of layers in training steps, from a trace of the framework's profiler."""
    return time_layers(experiment, device, build(experiment, device))


def export(
    experiment: Experiment, device: Device, checkpoint: Checkpoint
) -> tuple[PortableState, RecorderState]:
    """Return a checkpoint's portable state and its recorder's state."""
    return export_checkpoint(checkpoint, build(experiment, device))


def adopt(experiment: Experiment, device: Device, portables: Sequence[PortableCheckpoint]) -> None:
    """Write portable checkpoints, ordered by step, as this backend's own in the run folder."""
    _import_all(experiment, device, portables, build(experiment, device))


def trained_model(
    experiment: Experiment, portable: PortableCheckpoint, device: Device | None = None
) -> TrainedModel:
    """Return the model with the weights of a portable checkpoint that an evaluation takes."""
    device = device or own_device(experiment.config)
    model, state = _make_model(experiment).to(device.dtype), portable.state
    check_shapes(portable.source, state.shapes, shapes_of(model))
    from_portable(replace(state, parameters=state.averages or state.parameters), model)
    model = model.to(device.torch_device).eval()
    return TrainedModel(model, experiment.config, experiment.plan, device)


def _import_all(
    experiment: Experiment,
    device: Device,
    portables: Sequence[PortableCheckpoint],
    module: TrainingModule,
) -> dict[str, Any]:
    """Write portable checkpoints as Lightning's; return the content of the last."""
    content: dict[str, Any] = {}
    for portable in portables:
        content = import_checkpoint(portable, experiment, device, module)
        if device.world.is_main:
            step, best = content["global_step"], content["recorder"]["best"]
            for kind in ["best", "last"] if best and best["step"] == step else ["last"]:
                path = experiment.folder / CHECKPOINTS / f"{kind}-{step:06d}.ckpt"
                CheckpointFiles().save_checkpoint(content, path)
    return content


def versions() -> dict[str, str]:
    """Versions of the libraries that affect the result."""
    return {"torch": torch.__version__, "lightning": lightning.__version__}


def build(experiment: Experiment, device: Device) -> TrainingModule:
    """Build the module with its weights at step 0, in the run's dtype."""
    config = experiment.config
    model = _make_model(experiment)
    names = names_of(config.model, experiment.folder)
    if names:
        check_names(names, shapes_of(model))
    if device.devices > 1 and config.accelerator.sync_batchnorm:
        convert_sync_batchnorm(model)
    observer = experiment.recorder.observer
    start = initial_state(model, config)
    if experiment.initial is not None:
        shapes = values.shapes_of(start.parameters), values.shapes_of(start.buffers)
        start = values.fill(experiment.initial, *shapes, lambda: start, config, observer.watching)
    start = start_from(start, experiment.weights, config, names)
    from_portable(observer.begins(start), model.to(device.dtype))
    if config.backend.channels_last:
        model.to(memory_format=torch.channels_last)
    kind = Watched if observer.watching else TrainingModule
    return kind(model, config, experiment.plan, experiment.recorder, device)


def _make_model(experiment: Experiment) -> nn.Module:
    """Make the model; one that draws its own weights draws them from the seed."""
    config, data = experiment.config, experiment.plan.data
    if config.model.init is Initializer.own:
        seed_global_generators(config.seed)
        torch.manual_seed(key_words(config.seed, "weights")[0])
    return build_model(fill_from_data(config.model, data), data.input_shape, data.outputs)
