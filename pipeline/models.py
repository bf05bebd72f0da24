"""Which models fit which data, known without loading a framework."""

from importlib import import_module
from math import gcd, prod
from typing import Any

from pipeline.config import (
    CNNConfig,
    Config,
    GPTConfig,
    ModelConfig,
    ResNet18Config,
    SimpleCNNConfig,
    Stem,
    ViTConfig,
)
from pipeline.datasets import Data, Form, Task
from pipeline.errors import UserError

# What samples a model takes, by its name; one that is not listed may take any. The first that takes
# a form is the one to suggest.
TAKES: dict[str, tuple[Form, ...]] = {
    "linear": (Form.images, Form.vectors),
    "mlp": (Form.images, Form.vectors),
    "cnn": (Form.images,),
    "simple_cnn": (Form.images,),
    "resnet18": (Form.images,),
    "vit": (Form.images,),
    "gpt": (Form.tokens,),
}


def check_model(config: Config, data: Data) -> None:
    """Refuse a model that does not fit the data set's shape or task.

    Raises:
        UserError: with what would fit.
    """
    model, shape = config.model, data.train.inputs.shape[1:]
    form = data.train.form
    if form not in TAKES.get(model.name, Form):
        fitting = [name for name, forms in TAKES.items() if form in forms]
        raise UserError(
            "model",
            model.name,
            f"{' or '.join(fitting)} for dataset={data.name}, whose samples are "
            f"{form.value} of {'×'.join(map(str, shape))}",
            f"Set model={fitting[0]}.",
        )
    if isinstance(model, CNNConfig):
        check_input_size(model, data.name, shape)
    if isinstance(model, ViTConfig):
        check_patch(model, data.name, shape)
    if isinstance(model, GPTConfig):
        check_max_length(model, data.name, shape)
    smallest = min(feature_map(model, shape)) if len(shape) == 3 else 1
    if smallest < 1:
        raise UserError(
            "model",
            model.name,
            f"a model for images of {shape[0]}×{shape[1]}: nothing of dataset={data.name} is left "
            "after its convolutions and pools",
            "Raise model.padding or model.input_size, or set model=mlp.",
        )
    if isinstance(model, ResNet18Config):
        check_statistics(config, data.name, shape)
    if config.train.label_smoothing and data.task is Task.regression:
        raise UserError(
            "train.label_smoothing",
            config.train.label_smoothing,
            f"0 for dataset={data.name}, which has no classes",
        )


def imported(
    key: str, path: str | None, input_shape: tuple[int, ...], outputs: int, options: dict[str, Any]
) -> Any:
    """A user's own model, made.

    Args:
        key: of the configuration that names it.
        path: `package.module:Class`.
        input_shape: its first argument, of one sample as the data set has it.
        outputs: its second.
        options: its others, by name.

    Raises:
        UserError: there is no such class, or it does not take these arguments.
    """
    hint = "Name a class as package.module:Class, from this folder or PYTHONPATH."
    module, _, name = (path or "").partition(":")
    try:
        made = getattr(import_module(module), name)
    except (ImportError, ValueError, AttributeError) as error:
        raise UserError(key, path, f"a class that can be imported ({error})", hint) from error
    try:
        return made(input_shape, outputs, **options)
    except TypeError as error:
        hint = f"It is called as {name}(input_shape, outputs, **model.options)."
        raise UserError(key, path, f"a class that takes these arguments ({error})", hint) from error


def check_input_size(model: CNNConfig, dataset: str, shape: tuple[int, ...]) -> None:
    """Refuse an input size that the images do not fit into."""
    size, largest = model.input_size, max(shape[:2])
    if size is not None and size < largest:
        raise UserError(
            "model.input_size", size, f"null or at least {largest}, the size of {dataset}'s images"
        )


def check_patch(model: ViTConfig, dataset: str, shape: tuple[int, ...]) -> None:
    """Refuse a patch that the images cannot be cut into."""
    common = gcd(*shape[:2])
    divisors = [str(side) for side in range(1, common + 1) if common % side == 0]
    if str(model.patch) not in divisors:
        raise UserError(
            "model.patch",
            model.patch,
            f"a divisor of the sides of {dataset}'s images, {shape[0]}×{shape[1]}",
            f"Set model.patch to one of {', '.join(divisors)}.",
        )


def check_max_length(model: GPTConfig, dataset: str, shape: tuple[int, ...]) -> None:
    """Refuse fewer positions than a sample has tokens."""
    if model.max_length is not None and model.max_length < shape[0]:
        raise UserError(
            "model.max_length",
            model.max_length,
            f"null or at least {shape[0]}, the length of {dataset}'s samples",
            f"Or shorten them with dataset.length={model.max_length}.",
        )


def check_statistics(config: Config, dataset: str, shape: tuple[int, ...]) -> None:
    """Refuse to normalise a channel by the one value that it has."""
    train, pixels = config.train, prod(feature_map(config.model, shape))
    if pixels == 1 and train.batch_size == train.accumulate:
        raise UserError(
            "train.batch_size",
            train.batch_size,
            f"at least {2 * train.accumulate} for model={config.model.name} on dataset={dataset}: "
            "one image has one value per channel in the end, and batch normalisation needs two",
        )


def feature_map(model: ModelConfig, shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width that are left of an image before the dense layers, or before a transformer."""
    height, width = shape[:2]
    if isinstance(model, SimpleCNNConfig):
        return height // 2, width // 2
    if isinstance(model, ViTConfig):
        return height // model.patch, width // model.patch
    if isinstance(model, ResNet18Config):
        halvings = 5 if model.stem is Stem.imagenet else 3
        return -(-height // 2**halvings), -(-width // 2**halvings)
    if isinstance(model, CNNConfig):
        height, width = (model.input_size or height), (model.input_size or width)
        shrink = 2 * model.padding - model.kernel_size + 1
        for _ in model.channels:
            height, width = (height + shrink) // 2, (width + shrink) // 2
    return height, width


def drop_path_rates(model: ViTConfig) -> list[float]:
    """How often a sample skips the layers of each block: linear in its depth (Huang et al. 2016)."""
    return [model.drop_path * block / max(1, model.depth - 1) for block in range(model.depth)]


def margins(model: CNNConfig, shape: tuple[int, ...]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Zeros to add (above, below) and (left, right), so that an image has `model.input_size` a side."""
    missing = [(model.input_size or side) - side for side in shape[:2]]
    return tuple((lack // 2, lack - lack // 2) for lack in missing)
