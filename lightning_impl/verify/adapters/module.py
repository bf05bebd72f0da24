"""A torch module: its modes, and its call."""

import inspect
from collections.abc import Generator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from pipeline.verify.sides.loss import Loss, inputs_of_model


@contextmanager
def mode(model: nn.Module, training: bool) -> Generator[None]:
    """Let a model evaluate or train, with attention in single operations; counters stay as they are."""
    was, fast = model.training, torch.backends.mha.get_fastpath_enabled()
    counters = [(b, b.clone()) for b in model.buffers() if not b.is_floating_point()]
    model.train(training)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        model.train(was)
        for buffer, before in counters:
            buffer.copy_(before)


def call(
    model: nn.Module,
    given: Mapping[str, object],
    keywords: Mapping[str, object],
    loss: Loss | None = None,
) -> object:
    """Call a model with its inputs by name, or in order if it names them otherwise."""
    names = inspect.signature(model.forward).parameters
    given = inputs_of_model(given, [*names], loss)
    if all(name in names for name in given):
        return model(**given, **keywords)
    return model(*given.values(), **keywords)
