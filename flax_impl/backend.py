"""Functions of a backend that the core calls; see `pipeline.run.backends.Backend`."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint

from flax_impl.checkpoints import Checkpoints, read_best, read_checkpoint
from flax_impl.data.samples import shapes_of_sample
from flax_impl.device import Device, PyTree, prepare
from flax_impl.layers import Layout
from flax_impl.layout import initial_variables, layout_of
from flax_impl.models import build_model
from flax_impl.models.attention import choose_kernel
from flax_impl.models.trained import TrainedModel, own_device, settings_of
from flax_impl.sharding import put_on_devices, shardings
from flax_impl.starting_values import canonical_weights, starting_values
from flax_impl.state import from_canonical, initial_state, shapes_of
from flax_impl.tasks import Inputs, build_loss
from flax_impl.training.descent import make_descent
from flax_impl.training.evaluation import make_test
from flax_impl.training.inference import make_inference
from flax_impl.training.layer_times import time_layers
from flax_impl.training.loop import evaluate
from flax_impl.training.loop import train as train_loop
from flax_impl.training.step import make_apply_fn
from flax_impl.training.train_state import TrainState
from flax_impl.transfer import export_checkpoint, import_checkpoint
from flax_impl.vectorized.loop import Member, train_members
from pipeline.config.models import Initializer, OwnConfig
from pipeline.config.optimizers import OwnOptimizerConfig, SGDConfig
from pipeline.errors import UserError
from pipeline.rng import seed_global_generators
from pipeline.run.backends import LayerTimes, Test, Tested
from pipeline.run.continuation import carry_best
from pipeline.run.experiment import Experiment
from pipeline.run.start.pretrained import start_from
from pipeline.storage.checkpoints import Checkpoint, check_shapes, first_readable
from pipeline.storage.portable_file import PortableCheckpoint
from pipeline.storage.portable_state import PortableState
from pipeline.storage.recorder_state import RecorderState
from pipeline.storage.run_folder import CHECKPOINTS
from pipeline.training.model_calls import calling
from pipeline.training.model_checks import fill_from_data
from pipeline.verify.names.names_file import names_of

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

# Orbax logs every file it opens, JAX every backend it does not find.
for name in ("absl", "jax"):
    logging.getLogger(name).setLevel(logging.ERROR)
logging.getLogger("jax._src.xla_bridge").setLevel(logging.WARNING)  # that it does not use a GPU
# Orbax logs the error of a background save with its traceback, and raises it at the next call.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)


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
    members, alike = [Member(experiment) for experiment in experiments], _Alike()
    for member in members:
        with member.noting_failure():
            member.state, member.layout = _start_state(member.experiment, device, alike)
    train_members(members, device)
    test = make_test(experiments[0], device, *build(experiments[0], device, is_fresh=False))
    return [member.failure or partial(test, known=member.tested) for member in members]


@dataclass
class _Alike:
    """Model and starting program, made once by the first of several runs that are alike."""

    made: tuple[nn.Module, Inputs, Layout] | None = None
    begin: Callable[..., TrainState] | None = None


def _start_state(
    experiment: Experiment, device: Device, alike: _Alike | None = None
) -> tuple[TrainState, Layout]:
    """Return the state to start from, of a checkpoint or at step 0; the recorder continues from there."""
    config = experiment.config
    if isinstance(config.model, OwnConfig) or isinstance(config.optimizer, OwnOptimizerConfig):
        alike = None  # a user's own may differ with the seed
    state, layout = build(experiment, device, alike=alike)
    if experiment.imported:
        state = _import_all(experiment, experiment.imported, state, layout)
        last = experiment.imported[-1]
        experiment.recorder.restore(last.state.step, last.recorder_state or RecorderState())
    elif experiment.resume:
        read = partial(read_checkpoint, template=state, layout=layout)
        resume, content = first_readable(
            experiment.resume, read, experiment.recorder.progress.message
        )
        state = content["state"]
        experiment.recorder.restore(resume.step, RecorderState.from_json(content["recorder"]))
        carry_best(experiment, resume, device)
    return state, layout


def test(
    experiment: Experiment, device: Device, checkpoint: Checkpoint | PortableCheckpoint
) -> Tested:
    """Return what the test of a checkpoint's weights finds."""
    if isinstance(
        checkpoint, PortableCheckpoint
    ):  # the optimizer may be a user's own of torch alone
        config = replace(experiment.config, optimizer=SGDConfig())
        experiment = replace(experiment, config=config)
    state, layout = build(experiment, device, is_fresh=False)
    accumulate = experiment.config.train.accumulate
    if isinstance(checkpoint, PortableCheckpoint):
        state = import_checkpoint(checkpoint, state, layout, accumulate)
    else:
        read = partial(read_checkpoint, template=state, layout=layout)
        _, content = first_readable([checkpoint], read, lambda message: None, "checkpoint")
        state = content["state"]
    return evaluate(experiment, device, state, layout)


def initial(experiment: Experiment, device: Device) -> PortableState:
    """Return the values at step 0 that a user's own model makes itself."""
    model, inputs, layout = _make_model(experiment, device)
    make = partial(initial_variables, model, inputs, experiment.config.seed)
    return initial_state(layout, experiment.config, make)


def inference(experiment: Experiment, device: Device) -> Callable[[], Mapping[str, float]]:
    """Return a function that infers the next batch of training samples, and returns its sums."""
    return make_inference(experiment, device, build(experiment, device)[0])


def layer_times(experiment: Experiment, device: Device) -> LayerTimes:
    """Return the times of layers in training steps, from a trace of the framework's profiler."""
    return time_layers(experiment, device, *build(experiment, device))


def export(
    experiment: Experiment, device: Device, checkpoint: Checkpoint
) -> tuple[PortableState, RecorderState]:
    """Return a checkpoint's portable state and its recorder's state."""
    return export_checkpoint(checkpoint, *build(experiment, device, is_fresh=False))


def adopt(experiment: Experiment, device: Device, portables: Sequence[PortableCheckpoint]) -> None:
    """Write portable checkpoints, ordered by step, as this backend's own in the run folder."""
    _import_all(experiment, portables, *build(experiment, device, is_fresh=False))


def trained_model(
    experiment: Experiment, portable: PortableCheckpoint, device: Device | None = None
) -> TrainedModel:
    """Return the model with the weights of a portable checkpoint that an evaluation takes."""
    device, state = device or own_device(experiment.config), portable.state
    with settings_of(experiment.config):
        model, _, layout = _make_model(experiment, device)
        check_shapes(portable.source, state.shapes, shapes_of(layout))
        counters = state.counters(experiment.config.train.accumulate)
        trees = state.averages or state.parameters, state.buffers | counters
        params, batch_stats = (
            jax.tree.map(jnp.asarray, _typed(from_canonical(arrays, layout), device))
            for arrays in trees
        )
        variables = {"params": params} | ({"batch_stats": batch_stats} if batch_stats else {})
        return TrainedModel(model.bind(variables), experiment.config, experiment.plan, device)


def _import_all(
    experiment: Experiment,
    portables: Sequence[PortableCheckpoint],
    template: TrainState,
    layout: Layout,
) -> TrainState:
    """Write portable checkpoints as Orbax's; return the state of the last."""
    state, accumulate = template, experiment.config.train.accumulate
    for portable in portables:
        state = import_checkpoint(portable, template, layout, accumulate)
        folder = experiment.folder / CHECKPOINTS
        with Checkpoints(folder, experiment.recorder, layout) as checkpoints:
            checkpoints.save(state, portable.recorder_state)
    return state


def versions() -> dict[str, str]:
    """Versions of the libraries that affect the result."""
    libraries = {"jax": jax, "flax": flax, "optax": optax, "orbax": orbax.checkpoint}
    return {name: library.__version__ for name, library in libraries.items()}


def build(
    experiment: Experiment, device: Device, is_fresh: bool = True, alike: _Alike | None = None
) -> tuple[TrainState, Layout]:
    """Build the state at step 0, in the run's dtype, and the canonical layout of its arrays.

    Unless `is_fresh`, a checkpoint takes its place. With `alike` its functions are those of the first run.
    """
    alike = alike or _Alike()
    begin, arrays, layout = starting_state(experiment, device, is_fresh, alike)
    # Shapes first, then shardings, then arrays, so that no device ever holds a whole sharded array.
    if alike.begin is None:
        places = shardings(jax.eval_shape(begin, *arrays), device)
        alike.begin = jax.jit(begin, out_shardings=places)
    placed = jax.tree.map(put_on_devices, arrays, shardings(arrays, device))
    return alike.begin(*placed), layout


def starting_state(
    experiment: Experiment,
    device: Device,
    is_fresh: bool = True,
    alike: _Alike | None = None,
) -> tuple[Callable[..., TrainState], tuple[PyTree, PyTree], Layout]:
    """Return a function that makes the state at step 0, its arguments, and the layout, as `build` does.

    The arguments are parameters and running statistics, as NumPy arrays. Only here: a torch module is made
    with its arrays.
    """
    config = experiment.config
    alike = alike or _Alike()
    if alike.made is None:
        alike.made = _make_model(experiment, device)
    model, inputs, layout = alike.made
    parameters = [place for place in layout.values() if place.collection == "params"]
    has_statistics = len(parameters) < len(layout)
    if has_statistics and device.devices > 1 and not config.accelerator.sync_batchnorm:
        # Only here: each torch process sees its own batch alone.
        raise UserError(
            "accelerator.sync_batchnorm",
            False,
            f"true for jax on {device.devices} devices: a compiled step sees the global batch",
            "Leave it out, or use backend=torch.",
        )
    start = starting_values(experiment, model, inputs, layout, is_fresh and experiment.is_fresh)
    names = names_of(config.model, experiment.folder)
    native = partial(canonical_weights, layout=layout)
    start = start_from(start, experiment.weights, config, names, native)
    initial = experiment.recorder.observer.begins(start)
    is_traced = experiment.recorder.observer.watching  # all that blocks compute is read
    remat = config.train.remat and not is_traced
    groups, tx = make_descent(layout, config)
    apply_fn = make_apply_fn(model, groups, device, remat, by_block=not is_traced)

    def begin(params: PyTree, batch_stats: PyTree) -> TrainState:
        averages = None if config.train.ema is None else jax.tree.map(jnp.copy, params)
        state = TrainState.create(
            apply_fn=apply_fn, tx=tx, params=params, batch_stats=batch_stats, averages=averages
        )
        return state.replace(step=jnp.zeros((), jnp.int32))

    arrays = tuple(
        _typed(from_canonical(canonical, layout), device)
        for canonical in (initial.parameters, initial.buffers | initial.counters(1))
    )
    return begin, arrays, layout


def _typed(tree: PyTree, device: Device) -> PyTree:
    """Return arrays with floats in the run's dtype, and others, as tables of numbers, in their own."""

    def typed(array: np.ndarray) -> np.ndarray:
        return array.astype(device.dtype) if np.issubdtype(array.dtype, np.floating) else array

    return jax.tree.map(typed, tree)


def _make_model(experiment: Experiment, device: Device) -> tuple[nn.Module, Inputs, Layout]:
    """Make the model, the shapes and dtypes of what it takes for one sample, and the canonical layout."""
    config, data = experiment.config, experiment.plan.data
    if config.model.init is Initializer.own:
        seed_global_generators(config.seed)
    dtypes = {"dtype": device.compute_dtype, "param_dtype": device.dtype}
    fitted = fill_from_data(config.model, data)
    fitted = choose_kernel(fitted, data.input_shape, device, experiment.recorder.observer.watching)
    model = build_model(fitted, data.input_shape, data.outputs, **dtypes)
    loss = build_loss(config, data, device)
    inputs = loss.model_inputs(shapes_of_sample(experiment.plan, device))
    names, within = names_of(config.model, experiment.folder), calling(fitted, "model.jax", inputs)
    layout = layout_of(model, *inputs, names=names, within=within)
    if isinstance(config.model, OwnConfig) and not layout:
        raise UserError("model.jax", config.model.jax, problem="it has no parameters to train")
    return model, inputs, layout
