"""A user's own optimizer: its import and its arguments, the same on both backends."""

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from typing import Any

from pipeline.config.optimizers import OwnOptimizerConfig
from pipeline.errors import UserError
from pipeline.user_code import import_attribute, shortened


def import_factory(config: OwnOptimizerConfig, backend: str) -> Callable[..., Any]:
    """Import what makes the optimizer of a backend.

    Raises:
        UserError: the config names none, it cannot be imported, or it is not callable.
    """
    key, path = f"optimizer.{backend}", getattr(config, backend, None)
    if not path:
        other = next((name for name in ("torch", "jax") if getattr(config, name)), None)
        problem = f"optimizer=own names no optimizer of {backend}"
        hint = f"Set {key}=module:name" + (f", or backend={other}." if other else ".")
        raise UserError(key, None, problem=problem, hint=hint)
    factory = import_attribute(path, key)
    if not callable(factory):
        raise UserError(key, path, f"a class or a function, and it is a {type(factory).__name__}")
    return factory


def arguments_of(
    factory: Callable[..., Any],
    config: OwnOptimizerConfig,
    backend: str,
    mask: object = None,
) -> dict[str, Any]:
    """Return the arguments after the parameters (torch) or the learning rate (JAX).

    These are the options, and the weight decay if the factory has a parameter `weight_decay`. `mask` says
    which parameters decay, if not all; it is passed as such a parameter.

    Raises:
        UserError: weight decay is asked for, and the factory has no parameter for it.
    """
    arguments = {**config.options, **getattr(config, f"{backend}_options")}
    named, takes_any = parameters_of(factory)
    key, path = f"optimizer.{backend}", getattr(config, backend)
    if "weight_decay" in named or (config.weight_decay and takes_any):
        arguments["weight_decay"] = config.weight_decay
    elif config.weight_decay:
        problem = f"{path} has no parameter weight_decay"
        hint = "Leave it at 0, or let your optimizer take it."
        raise UserError("optimizer.weight_decay", config.weight_decay, problem=problem, hint=hint)
    if mask is not None and config.weight_decay:
        if "mask" not in named and not takes_any:
            problem = f"{key}={path} has no parameter mask, as optax.adamw has"
            hint = "Leave it out, or let your optimizer take the mask of what decays."
            raise UserError("optimizer.no_decay", config.no_decay, problem=problem, hint=hint)
        arguments["mask"] = mask
    return arguments


def parameters_of(factory: Callable[..., Any]) -> tuple[set[str], bool]:
    """Return the names of a factory's parameters, and whether it takes any other by keyword."""
    try:
        found = signature(factory).parameters.values()
    except (TypeError, ValueError):  # of an object without one
        return set(), True
    takes_any = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in found)
    return {parameter.name for parameter in found}, takes_any


def refused(
    config: OwnOptimizerConfig,
    backend: str,
    doing: str,
    error: BaseException,
    call: Mapping[str, object] | None = None,
) -> UserError:
    """Make the error for an optimizer that cannot do what `doing` says.

    `call` are the arguments that it was made with; Ellipsis stands for one that is too long to show.
    """
    path = str(getattr(config, backend))
    hint = ""
    if call:
        plain = int | float | str | bool | list | None
        shown = (
            f"{key}={value!r}" if isinstance(value, plain) else key for key, value in call.items()
        )
        hint = f"It is called as {path.partition(':')[2]}({', '.join(shown)})."
    problem = f"it cannot {doing}: {shortened(error)}"
    return UserError(f"optimizer.{backend}", path, problem=problem, hint=hint)
