"""Which models fit which data, known without loading a framework."""

from pipeline.config import CNNConfig, Config, ModelConfig, SimpleCNNConfig
from pipeline.datasets import Data, Task
from pipeline.errors import UserError


def check_model(config: Config, data: Data) -> None:
    """Refuse a model that does not fit the data set's shape or task.

    Raises:
        UserError: with what would fit.
    """
    model, shape = config.model, data.train.inputs.shape[1:]
    if isinstance(model, CNNConfig | SimpleCNNConfig) and len(shape) != 3:
        raise UserError(
            "model",
            model.name,
            f"linear or mlp for dataset={data.name}, whose samples are vectors of {shape[0]}",
            "Set model=linear.",
        )
    if isinstance(model, CNNConfig):
        check_input_size(model, data.name, shape)
    smallest = min(feature_map(model, shape)) if len(shape) == 3 else 1
    if smallest < 1:
        raise UserError(
            "model",
            model.name,
            f"a model for images of {shape[0]}×{shape[1]}: nothing of dataset={data.name} is left "
            "after its convolutions and pools",
            "Raise model.padding or model.input_size, or set model=mlp.",
        )
    if config.train.label_smoothing and data.task is not Task.classification:
        raise UserError(
            "train.label_smoothing",
            config.train.label_smoothing,
            f"0 for dataset={data.name}, which has no classes",
        )


def check_input_size(model: CNNConfig, dataset: str, shape: tuple[int, ...]) -> None:
    """Refuse an input size that the images do not fit into."""
    size, largest = model.input_size, max(shape[:2])
    if size is not None and size < largest:
        raise UserError(
            "model.input_size", size, f"null or at least {largest}, the size of {dataset}'s images"
        )


def feature_map(model: ModelConfig, shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width that are left of an image before the dense layers."""
    height, width = shape[:2]
    if isinstance(model, SimpleCNNConfig):
        return height // 2, width // 2
    if isinstance(model, CNNConfig):
        height, width = (model.input_size or height), (model.input_size or width)
        shrink = 2 * model.padding - model.kernel_size + 1
        for _ in model.channels:
            height, width = (height + shrink) // 2, (width + shrink) // 2
    return height, width


def margins(model: CNNConfig, shape: tuple[int, ...]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Zeros to add (above, below) and (left, right), so that an image has `model.input_size` a side."""
    missing = [(model.input_size or side) - side for side in shape[:2]]
    return tuple((lack // 2, lack - lack // 2) for lack in missing)
