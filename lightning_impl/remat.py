"""Blocks of a model: what is computed again for the gradient instead of kept."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from lightning_impl.sharding import blocks
from pipeline.errors import UserError


def wrap_blocks(model: nn.Module, is_compiled: bool = False) -> None:
    """Let each block of a model keep only its inputs for the gradient.

    Raises:
        UserError: the model has no blocks to rematerialise, or compiled ones would update buffers twice.
    """
    found = [*blocks(model)]
    if not found:
        allowed = "false for this model: it has no nn.Sequential or nn.ModuleList of blocks"
        hint = "Leave it out, or call torch.utils.checkpoint inside your own model."
        raise UserError("train.remat", "true", allowed, hint)
    if is_compiled and any(True for block in found for _ in block.buffers()):
        allowed = (
            "false for this model with backend.compile=true, which would update the buffers of its "
        )
        hint = "Leave it out, or set backend.compile=false."
        raise UserError("train.remat", "true", f"{allowed}blocks (running statistics) twice", hint)
    for block in found:
        block.forward = partial(recomputed, block, block.forward)


def recomputed(
    module: nn.Module, call: Callable, *inputs: Any, draws: bool = True, **named: Any
) -> Any:
    """Return the result of a call of a module, of which only the inputs are kept for the gradient.

    With `draws` the repetition begins with torch's random state at the first call.
    """
    how: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": draws}
    if not torch.compiler.is_compiling():  # which takes none; see `wrap_blocks`
        how["context_fn"] = partial(_contexts, module)
    return checkpoint(call, *inputs, **how, **named)


def _contexts(module: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    """Return the contexts of a forward pass and of its repetition.

    The second has the values of the buffers before the first, and leaves them as they were, so that running
    statistics are updated once.
    """
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]

    @contextmanager
    def repeated() -> Generator[None]:
        now = [buffer.clone() for buffer, _ in buffers]
        try:
            for buffer, before in buffers:
                buffer.data.copy_(before)  # not as an operation that the backward pass would refuse
            yield
        finally:
            for (buffer, _), after in zip(buffers, now, strict=True):
                buffer.data.copy_(after)

    return nullcontext(), repeated()
