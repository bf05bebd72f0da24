"""A user's own optimizer, by its import path."""

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature

import torch
from torch.optim import Optimizer

from lightning_impl.optimizers.base import Group, Groups
from pipeline.config.optimizers import OwnOptimizerConfig
from pipeline.errors import UserError
from pipeline.training.own_optimizer import arguments_of, import_factory, refused
from pipeline.user_code import is_out_of_memory

STORABLE = (torch.Tensor, int, float, str, bool, type(None))  # in a checkpoint, read without pickle


def own(config: OwnOptimizerConfig, groups: Groups) -> Optimizer:
    """Make the user's `torch.optim.Optimizer` from parameter groups and its options.

    Each group has `params`, `lr` and `weight_decay`; `lr` is set before every step.

    Raises:
        UserError: there is none at `optimizer.torch`, or it does not take these arguments.
    """
    factory = import_factory(config, "torch")
    arguments = {"lr": config.lr, **arguments_of(factory, config, "torch")}
    plain = [{**group, "params": [value for _, value in group["params"]]} for group in groups]
    for group in plain:
        del group["matrix"], group["parts"]
    try:
        made = factory(plain, **arguments)
    except Exception as error:  # a user's code may raise anything
        call = {"params": ..., **arguments}
        raise refused(config, "torch", "be made", error, call) from error
    if not isinstance(made, Optimizer):
        problem = f"it makes a {type(made).__name__}, which is no torch.optim.Optimizer"
        raise UserError("optimizer.torch", config.torch, problem=problem)
    given = [parameter for group in plain for parameter in group["params"]]
    taken = [parameter for group in made.param_groups for parameter in group["params"]]
    if len(made.param_groups) != len(plain) or [*map(id, given)] != [*map(id, taken)]:
        problem = "its param_groups are not the groups that it was made from"
        raise UserError("optimizer.torch", config.torch, problem=problem)
    closure = signature(made.step).parameters.get("closure")
    if closure is not None and closure.default is Parameter.empty:
        problem = (
            "it evaluates the loss several times, and a step is one update from one evaluation"
        )
        raise UserError("optimizer.torch", config.torch, problem=problem)
    _step_on_gradients(made, config)
    return made


def _step_on_gradients(optimizer: Optimizer, config: OwnOptimizerConfig) -> None:
    """Let an optimizer step on gradients that are there already, as in a plain loop.

    Lightning computes them in a closure, which not every optimizer calls.
    """
    step = optimizer.step

    @wraps(step)
    def on_gradients(closure: Callable[[], object] | None = None) -> object:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        try:
            step()
        except Exception as error:  # a user's code may raise anything
            if is_out_of_memory(error):
                raise
            raise refused(config, "torch", "take a step", error) from error
        return loss

    optimizer.step = on_gradients  # pyrefly: ignore[bad-assignment] an instance's own


def check_storable(optimizer: Optimizer, config: OwnOptimizerConfig) -> None:
    """Refuse a state that a checkpoint cannot hold: it is read without pickle.

    Only here: a state of optax is arrays.
    """
    state = optimizer.state_dict()
    for place, value in _leaves({"state": state["state"], "group": state["param_groups"]}, ""):
        if not isinstance(value, STORABLE):
            problem = (
                f"its {place.strip('.')} is a {type(value).__name__}, which no checkpoint holds"
            )
            hint = "Keep tensors, numbers, text, lists and dictionaries of these."
            raise UserError("optimizer.torch", config.torch, problem=problem, hint=hint)


def _leaves(node: object, place: str) -> list[tuple[str, object]]:
    """Return the values in nested containers, by their places."""
    if isinstance(node, dict):
        found: Group = node
    elif isinstance(node, list | tuple):
        found = {str(index): value for index, value in enumerate(node)}
    else:
        return [(place, node)]
    return [leaf for key, value in found.items() for leaf in _leaves(value, f"{place}.{key}")]
