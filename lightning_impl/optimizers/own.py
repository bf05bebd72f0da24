"""What the optimizers that torch lacks are made of."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Own(torch.optim.Optimizer):
    """An optimizer with state by canonical names, whose arithmetic is that of `update`.

    All parameters of a group are updated by a few calls (`torch._foreach_…`), as torch's own do.

    Args:
        params: parameters or parameter groups.
        defaults: settings of a group that does not have them.
    """

    def __init__(self, params: Any, **defaults: Any) -> None:
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update of every parameter that has a gradient; the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                self.update(group, parameters, [parameter.grad for parameter in parameters])
        return loss

    def update(
        self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]
    ) -> None:
        """One update of the parameters of a group."""
        raise NotImplementedError

    def slot(self, name: str, parameters: list[Tensor]) -> list[Tensor]:
        """The state of that name of each parameter; zeros at first."""
        for parameter in parameters:
            if name not in self.state[parameter]:
                self.state[parameter][name] = torch.zeros_like(parameter)
        return [self.state[parameter][name] for parameter in parameters]

    def steps(self, parameters: list[Tensor]) -> list[float]:
        """The number of updates of each parameter, this one included."""
        for parameter in parameters:
            # On the CPU, as torch has it: reading it must not wait for a GPU.
            step = self.state[parameter].get("step", torch.tensor(0.0))
            self.state[parameter]["step"] = step.cpu() + 1
        return [self.state[parameter]["step"].item() for parameter in parameters]

    def adam_moments(
        self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], list[float]]:
        """The moments of Adam moved on (Kingma & Ba 2015, algorithm 1).

        Returns:
            First moments, still biased; √(second moments, corrected) + ε; steps.
        """
        (beta1, beta2), steps = group["betas"], self.steps(parameters)
        first, second = self.slot("exp_avg", parameters), self.slot("exp_avg_sq", parameters)
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        roots = torch._foreach_sqrt(second)
        torch._foreach_div_(roots, [(1 - beta2**step) ** 0.5 for step in steps])
        torch._foreach_add_(roots, group["eps"])
        return first, list(roots), steps

    def adam_directions(
        self, group: dict[str, Any], parameters: list[Tensor], gradients: list[Tensor]
    ) -> list[Tensor]:
        """The updates of Adam, before the learning rate."""
        first, roots, steps = self.adam_moments(group, parameters, gradients)
        directions = torch._foreach_div(first, roots)
        torch._foreach_div_(directions, [1 - group["betas"][0] ** step for step in steps])
        return list(directions)


def pieces(tensor: Tensor, parts: int) -> tuple[Tensor, ...]:
    """Views of the weights that lie in a tensor one after the other, along the first axis."""
    return tensor.chunk(parts)
