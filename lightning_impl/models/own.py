"""A user's own model, by its import path."""

from torch import nn

from pipeline.config import OwnConfig
from pipeline.models import imported


def own(config: OwnConfig, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """The user's `torch.nn.Module`, called with the input's shape, the outputs and its options.

    It takes images as `[batch, channels, height, width]`.

    Raises:
        UserError: there is none at `model.torch`, or it does not take these arguments.
    """
    return imported("model.torch", config.torch, input_shape, outputs, config.options)
