"""Models of torch under check, for `pipeline.verify`."""

from collections.abc import Collection, Mapping

import torch
from torch import nn

from lightning_impl.verify.adapters.module import call
from lightning_impl.verify.native import to_native
from lightning_impl.verify.primitives.neutral import narrow_buffers
from lightning_impl.verify.subject import ModuleSubject
from pipeline.errors import UserError
from pipeline.verify.sides.channels import FIRST, Channels, open_in_layout
from pipeline.verify.sides.loss import Loss
from pipeline.verify.sides.subject import Inputs, Subject

KINDS = "a torch.nn.Module"


def prepare(threads: int) -> None:
    """Set torch to float64 on some cores of the CPU, with deterministic algorithms only."""
    torch.set_num_threads(threads)
    torch.set_default_dtype(torch.float64)
    # As use_deterministic_algorithms(True), which also loads the compiler, in more than a second.
    torch.set_deterministic_debug_mode("error")
    # By default torch fills every empty tensor in deterministic mode, which costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyrefly: ignore[missing-attribute]


def random_keywords(names: Collection[str]) -> dict[str, object]:
    """Return the generators of random numbers among a function's arguments: torch has one of its own."""
    del names
    return {}


def open_subject(
    made: object,
    inputs: Inputs,
    keywords: Mapping[str, object],
    layouts: Mapping[str, str],
    loss: Loss | None = None,
) -> Subject:
    """Return a torch module under check, once it has run on its inputs.

    `layouts` has the layout of the inputs that are images, `NCHW` or `NHWC`, by their names.

    Raises:
        UserError: the model is of no known kind, or refuses the inputs.
    """
    if not isinstance(made, nn.Module):
        raise UserError("model", f"an object of type {type(made).__name__}", allowed=KINDS)
    # Below torch.compile, which keeps the module in one attribute.
    inner = getattr(made, "_orig_mod", made)
    model = inner if isinstance(inner, nn.Module) else made
    narrow = narrow_buffers(model)
    model.double()
    model.eval()

    def attempt(taken: Channels) -> ModuleSubject:
        with torch.no_grad():  # before its parameters are listed: lazy ones get their shapes
            given = to_native(taken.turn(inputs))
            output = call(model, given, keywords, loss)
            if loss:
                loss(output, given)
        return ModuleSubject(model, keywords, taken, narrow, loss)

    return open_in_layout(attempt, type(model).__name__, inputs, layouts, FIRST)
