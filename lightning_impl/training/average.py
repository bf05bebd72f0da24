"""Moving average of a model's weights."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel


class Average(AveragedModel):
    """Exponential moving average of the weights; the buffers are the model's.

    torch's `update_parameters` reads its count of updates from the GPU twice a step.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model)
        self.decay = decay

    @torch.no_grad()
    def follow(self, model: nn.Module, is_first: bool) -> None:
        """Take the weights after an update; those of the first are copied."""
        own = [value.detach() for value in self.module.parameters()]
        new = [value.detach() for value in model.parameters()]
        if is_first:
            for average, value in zip(own, new, strict=True):
                average.copy_(value)
        else:
            torch._foreach_lerp_(own, new, 1 - self.decay)
        for buffer, source in zip(self.module.buffers(), model.buffers(), strict=True):
            buffer.copy_(source)
        self.n_averaged += 1
