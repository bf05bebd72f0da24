"""Errors of the user's code, in one line each."""

import inspect
from collections.abc import Mapping
from typing import Any

from pipeline.errors import UserError
from pipeline.user_code import shortened
from pipeline.verify.sides.subject import Inputs

MOST_NAMES = 12
OF_FLAX = ("parent", "name")  # fields of every linen module


class InputsRefused(UserError):
    """A model does not run on the inputs; `error` is its own."""

    def __init__(self, name: str, inputs: Inputs, hint: str, error: Exception) -> None:
        self.inputs, self.error = inputs, error
        problem = f"{name} refuses them: {shortened(error)}"
        super().__init__("inputs", describe_arrays(inputs), problem=problem, hint=hint)


def describe_arrays(arrays: Inputs) -> str:
    """Describe arrays as the command line does: `x=float64[5,7]`."""
    return ", ".join(
        f"{name}={array.dtype}[{','.join(map(str, array.shape))}]" for name, array in arrays.items()
    )


def describe_call(arguments: tuple[object, ...], keywords: Mapping[str, object]) -> str:
    """Describe the arguments of a call."""
    given = [*map(repr, arguments), *(f"{name}={value!r}" for name, value in keywords.items())]
    return ", ".join(given) or "nothing"


def parameters_of(function: Any) -> list[inspect.Parameter]:
    """Return the parameters of a class, as its own `__init__` has them, or of a function."""
    is_own = isinstance(function, type) and function.__init__ is not object.__init__
    try:
        found = [*inspect.signature(function.__init__ if is_own else function).parameters.values()]
    except (TypeError, ValueError):
        return []
    return found[1:] if is_own else found


def describe_signature(function: object, key: str) -> str:
    """Tell what a class or function takes, as the way out of a wrong call."""
    shown = [
        parameter.name + ("" if parameter.default is parameter.empty else f"={parameter.default!r}")
        for parameter in parameters_of(function)
        if parameter.kind is not parameter.VAR_KEYWORD and parameter.name not in OF_FLAX
    ]
    if not shown:
        return "It takes no options."
    more = ", …" if len(shown) > MOST_NAMES else ""
    return f"It takes {', '.join(shown[:MOST_NAMES])}{more}: set them with {key}."
