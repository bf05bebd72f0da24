"""A user's own model, by its import path."""

from torch import nn

from pipeline.config.models import OwnConfig
from pipeline.errors import UserError
from pipeline.training.model_checks import import_user_model, own_options
from pipeline.user_code import wrong_module


def import_model(config: OwnConfig, input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """Build the user's `torch.nn.Module` from the input's shape, the number of outputs and its options.

    It takes images as `[batch, channels, height, width]`.

    Raises:
        UserError: there is none at `model.torch`, or it does not take these arguments.
    """
    made = import_user_model(
        "model.torch", config.torch, input_shape, outputs, own_options(config, "model.torch")
    )
    if not isinstance(made, nn.Module):
        raise wrong_module("model.torch", config.torch, made, "torch.nn.Module")
    if not any(True for _ in made.parameters()):
        raise UserError("model.torch", config.torch, problem="it has no parameters to train")
    return made
