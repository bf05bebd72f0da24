"""Base class of the optimizers that torch lacks."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pipeline.config.optimizers import MomentsConfig, OptimizerConfig

Group = dict[str, Any]  # torch's: `params` and their settings
Groups = list[Group]
Fused = bool | None  # None: torch chooses

# Fields of a config that determine the parameter groups, and are no arguments of torch's classes.
OF_GROUPS = {"name", "no_decay", "lr_factors", "adamw"}


class BaseOptimizer(torch.optim.Optimizer):
    """An optimizer whose slots have canonical names, and whose arithmetic is in `update`.

    A few calls of `torch._foreach_…` update all parameters of a group, as in torch's own optimizers.
    """

    def __init__(self, params: Groups, **defaults: object) -> None:
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyrefly: ignore[bad-override] overloads
        """Update every parameter that has a gradient; return the closure's loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            if parameters:
                self.update(group, parameters, [parameter.grad for parameter in parameters])
        return loss

    def update(self, group: Group, parameters: list[Tensor], gradients: list[Tensor]) -> None:
        """Update the parameters of a group."""
        raise NotImplementedError

    def slot(self, name: str, parameters: list[Tensor]) -> list[Tensor]:
        """Return the slot of each parameter; zeros at first."""
        for parameter in parameters:
            if name not in self.state[parameter]:
                self.state[parameter][name] = torch.zeros_like(parameter)
        return [self.state[parameter][name] for parameter in parameters]

    def steps(self, parameters: list[Tensor]) -> list[float]:
        """Return the number of updates of each parameter, this one included."""
        for parameter in parameters:
            # On the CPU, as in torch: reading it must not wait for a GPU.
            step = self.state[parameter].get("step", torch.tensor(0.0))
            self.state[parameter]["step"] = step.cpu() + 1
        return [self.state[parameter]["step"].item() for parameter in parameters]

    def adam_moments(
        self, group: Group, parameters: list[Tensor], gradients: list[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], list[float]]:
        """Update the moments of Adam (Kingma & Ba 2015, algorithm 1).

        Returns:
            First moments, still biased; √(second moments, corrected) + ε; steps.
        """
        (beta1, beta2), steps = group["betas"], self.steps(parameters)
        first, second = self.slot("exp_avg", parameters), self.slot("exp_avg_sq", parameters)
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        roots = torch._foreach_sqrt(second)
        torch._foreach_div_(roots, [bias_correction(beta2, step) ** 0.5 for step in steps])
        torch._foreach_add_(roots, group["eps"])
        return first, list(roots), steps

    def adam_directions(
        self, group: Group, parameters: list[Tensor], gradients: list[Tensor]
    ) -> list[Tensor]:
        """Return Adam's updates, before the learning rate."""
        first, roots, steps = self.adam_moments(group, parameters, gradients)
        directions = torch._foreach_div(first, roots)
        corrections = [bias_correction(group["betas"][0], step) for step in steps]
        torch._foreach_div_(directions, corrections)
        return list(directions)


def settings(config: OptimizerConfig) -> dict[str, Any]:
    """Arguments of an optimizer's class: the fields of its config, which have torch's names."""
    found = {name: value for name, value in vars(config).items() if name not in OF_GROUPS}
    return found | ({"betas": tuple(config.betas)} if isinstance(config, MomentsConfig) else {})


def bias_correction(beta: float, step: float) -> float:
    """1 - βᵗ (Kingma & Ba 2015, section 3)."""
    return 1 - beta**step
