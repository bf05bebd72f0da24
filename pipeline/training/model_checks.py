"""Checks that a model fits a data set, without loading a framework."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from inspect import signature
from math import gcd, prod
from typing import Any

import numpy as np

from pipeline.backend_specs import BACKENDS
from pipeline.config import models
from pipeline.config.experiment import Config
from pipeline.config.fields import require
from pipeline.data.dataset import Data, Form, form_of
from pipeline.errors import UserError
from pipeline.tasks import OwnTask, Shapes
from pipeline.user_code import import_attribute

ONE_ROW = None  # all tasks that need one row of outputs for a sample

# Samples and tasks that a model accepts; a model that is not listed accepts any, and a user's own task is
# accepted by all. Errors suggest the first model that fits.
ACCEPTED: dict[str, tuple[tuple[Form, ...], tuple[str, ...] | None]] = {
    "linear": ((Form.images, Form.vectors), ONE_ROW),
    "mlp": ((Form.images, Form.vectors), ONE_ROW),
    "cnn": ((Form.images,), ONE_ROW),
    "simple_cnn": ((Form.images,), ONE_ROW),
    "resnet18": ((Form.images,), ONE_ROW),
    "resnet50": ((Form.images,), ONE_ROW),
    "unet": ((Form.images,), ("segmentation", "denoising")),
    "vit": ((Form.images,), ONE_ROW),
    "gpt": ((Form.tokens,), ("language",)),
    "bert": ((Form.tokens,), ("masked_language",)),
    "encoder_decoder": ((Form.tokens,), ("seq2seq",)),
}


@dataclass
class OwnFromData(models.OwnConfig):
    """A user's own pair of models, with the shapes of a sample of all that it is called with, by name.

    `outputs` is the number of outputs that it is made with.
    """

    inputs: Shapes = field(default_factory=dict)
    outputs: int = 0


def no_fused_attention(reason: str) -> UserError:
    """Error of a fused kernel of attention that does not exist."""
    hint = "Set model.attention=auto, which takes one where there is one, or recomputed."
    return UserError("model.attention", "fused", problem=f"no fused kernel: {reason}", hint=hint)


def check_model(config: Config, data: Data) -> None:
    """Refuse a model that does not fit the data set's shape or task.

    Raises:
        UserError: the model does not fit; the hint names one that does.
    """
    model, train, dataset = config.model, config.train, data.name
    form, shape = data.form, data.input_shape
    if not accepts(model.name, data):
        fitting = [name for name in ACCEPTED if accepts(name, data)]
        samples = f"{form.value} of {'×'.join(map(str, shape))}"
        where = f"task={data.task.name} on dataset={dataset}, whose samples are {samples}"
        if not fitting:
            raise UserError("model", model.name, problem=f"no model here fits {where}")
        allowed = f"{' or '.join(fitting)} for {where}"
        raise UserError("model", model.name, allowed, f"Set model={fitting[0]}.")
    if isinstance(model, models.CNNConfig) and model.input_size is not None:
        largest = max(shape[:2])
        allowed = f"null or at least {largest}, the size of {dataset}'s images"
        require(model.input_size >= largest, "model.input_size", model.input_size, allowed)
    if isinstance(model, models.ViTConfig):
        common = gcd(*shape[:2])
        divisors = [side for side in range(1, common + 1) if common % side == 0]
        require(
            model.patch in divisors,
            "model.patch",
            model.patch,
            f"a divisor of the sides of {dataset}'s images, {shape[0]}×{shape[1]}",
            f"Set model.patch to one of {', '.join(map(str, divisors))}.",
        )
    if isinstance(model, models.UNetConfig):
        _check_halvings(model, data)
        takes = not model.time or "time" in data.task.noise
        require(takes, "model.time", True, f"null for task={data.task.name}, which draws no time")
    if isinstance(model, models.TokenConfig) and model.max_length is not None:
        require(
            model.max_length >= longest(data),
            "model.max_length",
            model.max_length,
            f"null or at least {longest(data)}, the length of {dataset}'s samples",
            f"Or shorten them with dataset.length={model.max_length}.",
        )
    sides = feature_map(model, shape) if len(shape) == 3 else (1, 1)
    if min(sides) < 1:
        raise UserError(
            "model",
            model.name,
            hint="Raise model.padding or model.input_size, or set model=mlp.",
            problem=f"nothing is left of the images of dataset={dataset}, {shape[0]}×{shape[1]}, "
            "after its convolutions and pools",
        )
    if isinstance(model, models.ResNetConfig):
        require(
            prod(sides) > 1 or train.batch_size > train.accumulate,
            "train.batch_size",
            train.batch_size,
            f"at least {2 * train.accumulate} for model={model.name} on dataset={dataset}: "
            "one image has one value per channel in the end, and batch normalisation needs two",
        )
    smoothing, allowed = (
        train.label_smoothing,
        f"0 for task={data.task.name}, which has no classes",
    )
    is_allowed = not smoothing or data.task.has_classes
    require(is_allowed, "train.label_smoothing", smoothing, allowed)


def _check_halvings(model: models.UNetConfig, data: Data) -> None:
    """Refuse images whose sides cannot be halved at every level."""
    height, width = data.input_shape[:2]
    common = gcd(height, width)
    halvings = (common & -common).bit_length() - 1
    if not halvings:
        problem = (
            f"it halves images, and the sides of {data.name}'s, {height}×{width}, are not even"
        )
        raise UserError("model", model.name, problem=problem, hint="Resize or pad them.")
    require(
        model.depth <= halvings,
        "model.depth",
        model.depth,
        f"at most {halvings}, the number of times that the sides of {data.name}'s images, "
        f"{height}×{width}, can be halved",
    )


def fill_from_data(model: models.ModelConfig, data: Data) -> models.ModelConfig:
    """Return the config of a model with what it leaves to the data set and its task."""
    if isinstance(model, models.UNetConfig) and model.time is None:
        return replace(model, time="time" in data.task.noise)
    if isinstance(model, models.TokenConfig) and model.max_length is None:
        return replace(model, max_length=longest(data))
    if isinstance(model, models.OwnConfig):
        return OwnFromData(**vars(model), inputs=data.call_shapes, outputs=data.outputs)
    return model


def longest(data: Data) -> int:
    """Return the length of the longest sequences of tokens in a data set."""
    fields = data.train.fields.values()
    return max(field.shape[1] for field in fields if form_of(field) is Form.tokens)


def accepts(name: str, data: Data) -> bool:
    """Tell whether a model fits the samples and the task of a data set."""
    if name not in ACCEPTED:
        return True
    forms, tasks = ACCEPTED[name]
    fits = data.task.one_row if tasks is ONE_ROW else data.task.name in tasks
    return data.form in forms and (fits or isinstance(data.task, OwnTask))


def check_monitor(config: Config, data: Data) -> None:
    """Refuse a `train.monitor` that is no metric of the task."""
    if config.train.monitor is None:
        return
    metrics = data.task.metrics(dict.fromkeys(data.sums, 1.0), data.val.shapes())
    known = [f"val/{name}" for name in metrics]
    allowed = f"one of {', '.join(known)}, the metrics of task={data.task.name}"
    require(config.train.monitor in known, "train.monitor", config.train.monitor, allowed)


def own_options(model: models.OwnConfig, key: str) -> dict[str, object]:
    """Return the options with which a user's class is called; the shapes of all `inputs`, if it takes them.

    `key` names the class: `model.torch`, `model.jax`.
    """
    path = getattr(model, key.rpartition(".")[2])
    offered = {"inputs": dict(model.inputs)} if isinstance(model, OwnFromData) and path else {}
    try:
        taken = signature(import_attribute(path, key)).parameters if offered else {}
    except (TypeError, ValueError):  # of a class in C
        taken = {}
    return {name: value for name, value in offered.items() if name in taken} | model.options


def no_side(key: str) -> UserError:
    """Error of a user's own model that has no class for a backend, as its key has no value."""
    backend = key.rpartition(".")[2]
    others = " or ".join(name for name in BACKENDS if name != backend)
    problem = f"your model has no side for backend={backend}"
    hint = f"Set {key}=package.module:Class, or backend={others}."
    return UserError(key, "null", problem=problem, hint=hint)


def import_user_model(
    key: str,
    path: str | None,
    input_shape: tuple[int, ...],
    outputs: int,
    options: Mapping[str, object],
) -> Any:
    """Import the class that a key of the config names (`package.module:Class`), and call it.

    Its arguments are the shape of one sample of its first input, the number of outputs and the options.

    Raises:
        UserError: there is no such class, or it does not accept these arguments.
    """
    if path is None:
        raise no_side(key)
    model_class = import_attribute(path, key)
    try:
        return model_class(input_shape, outputs, **options)
    except (Exception, SystemExit) as error:  # a user's code may raise anything, even `sys.exit()`
        problem = f"it cannot be created ({type(error).__name__}: {error})"
        name = path.partition(":")[2]
        more = ", inputs=SHAPES" if "inputs" in options else ""
        hint = f"It is called as {name}(input_shape, outputs{more}, **model.options)."
        raise UserError(key, path, problem=problem, hint=hint) from error


def feature_map(model: models.ModelConfig, shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of the feature map that enters the dense layers or the transformer."""
    height, width = shape[:2]
    if isinstance(model, models.SimpleCNNConfig):
        return height // 2, width // 2
    if isinstance(model, models.ViTConfig):
        return height // model.patch, width // model.patch
    if isinstance(model, models.ResNetConfig):
        halvings = 5 if model.stem is models.Stem.imagenet else 3
        return -(-height // 2**halvings), -(-width // 2**halvings)
    if isinstance(model, models.CNNConfig):
        height, width = (model.input_size or height), (model.input_size or width)
        shrink = 2 * model.padding - model.kernel_size + 1
        for _ in model.channels:
            height, width = (height + shrink) // 2, (width + shrink) // 2
    return height, width


def frequencies(width: int) -> np.ndarray:
    """Return the frequencies of the sines and cosines of an embedding: float64 [(width + 1) / 2].

    They fall from 1 to almost 1 / 10000 (Vaswani et al. 2017).
    """
    count = (width + 1) // 2
    return 10000.0 ** -(np.arange(count) / count)


def drop_path_rates(model: models.ViTConfig) -> list[float]:
    """Probability that a sample skips each block: linear in its depth (Huang et al. 2016)."""
    return [model.drop_path * block / max(1, model.depth - 1) for block in range(model.depth)]


def input_padding(
    model: models.CNNConfig, shape: tuple[int, ...]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Zero padding (top, bottom) and (left, right) of an image up to `model.input_size` a side."""
    height, width = ((model.input_size or side) - side for side in shape[:2])
    return (height // 2, height - height // 2), (width // 2, width - width // 2)
