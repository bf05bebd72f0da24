"""Calls of a user's own model."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager

from pipeline.config.models import ModelConfig
from pipeline.errors import UserError
from pipeline.training.model_checks import OwnFromData
from pipeline.user_code import is_out_of_memory, shortened


@contextmanager
def calling(
    model: ModelConfig, key: str, inputs: Sequence[object], of: str = ""
) -> Generator[None]:
    """Report an error that a user's own model raises as one message; a built-in model's is a fault of ours.

    `key` names its class: `model.torch`, `model.jax`; `inputs` are the arrays that it is called with, and
    `of` says of what, if not of a batch.

    Raises:
        UserError: the model fails.
    """
    try:
        yield
    except Exception as error:  # a user's code may raise anything
        # By an exception of a private class torch and Tandem end a call on purpose.
        is_ours = isinstance(error, UserError) or type(error).__name__.startswith("_")
        if is_ours or is_out_of_memory(error) or not isinstance(model, OwnFromData):
            raise
        shapes = [list(getattr(array, "shape", ())) for array in inputs]
        given = ", ".join(
            f"{name} {shape}" for name, shape in zip(model.inputs, shapes, strict=False)
        )
        made = f"input_shape={next(iter(model.inputs.values()))} and outputs={model.outputs}"
        hint = f"It is called with {given}{of}, and was made with {made}."
        path = getattr(model, key.rpartition(".")[2])
        raise UserError(key, path, problem=f"it fails: {shortened(error)}", hint=hint) from error
