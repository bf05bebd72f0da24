"""Blocks of a model: what is computed again for the gradient instead of kept."""

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from lightning_impl.sharding import blocks
from pipeline.errors import UserError


def wrap_blocks(model: nn.Module) -> None:
    """Let each block of a model keep only its inputs for the gradient.

    Raises:
        UserError: the model has no blocks to rematerialise.
    """
    found = [*blocks(model)]
    if not found:
        allowed = "false for this model: it has no nn.Sequential or nn.ModuleList of blocks"
        hint = "Leave it out, or call torch.utils.checkpoint inside your own model."
        raise UserError("train.remat", "true", allowed, hint)
    for block in found:
        options: dict[str, Any] = {"use_reentrant": False}
        if any(isinstance(module, _BatchNorm) for module in block.modules()):
            options["context_fn"] = partial(_contexts, block)  # torch.compile takes none
        block.forward = partial(checkpoint, block.forward, **options)  # pyrefly: ignore[missing-attribute] any function


def _contexts(block: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    """Contexts of a forward pass, and of its second one."""
    return nullcontext(), _counting_no_batch(block)


@contextmanager
def _counting_no_batch(block: nn.Module) -> Generator[None]:
    """While active, running statistics stay: they have followed the batch before."""
    norms = [
        (m, m.momentum)
        for m in block.modules()
        if isinstance(m, _BatchNorm) and m.training and m.track_running_stats
    ]
    for norm, _ in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in norms:
            norm.momentum = momentum
            if norm.num_batches_tracked is not None:
                norm.num_batches_tracked -= 1
