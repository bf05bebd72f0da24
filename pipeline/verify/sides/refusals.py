"""Errors of the user's code, in one line each."""

import inspect
import sysconfig
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.backend_specs import BACKENDS
from pipeline.errors import UserError
from pipeline.verify.sides.subject import Inputs

LONGEST = 300  # characters of an error's own message
MOST_NAMES = 12
OF_FLAX = ("parent", "name")  # fields of every linen module
ROOT = Path(__file__).resolve().parents[3]
OURS = tuple(f"{ROOT / name}/" for name in ("pipeline", *(b.package for b in BACKENDS.values())))
LIBRARIES = ("site-packages", "<frozen", sysconfig.get_path("stdlib"))
NO_MEMORY = ("allocate memory", "unable to allocate", "out of memory", "resource_exhausted")


class InputsRefused(UserError):
    """A model does not run on the inputs; `error` is its own."""

    def __init__(self, name: str, inputs: Inputs, hint: str, error: Exception) -> None:
        self.inputs, self.error = inputs, error
        problem = f"{name} refuses them: {shortened(error)}"
        super().__init__("inputs", describe_arrays(inputs), problem=problem, hint=hint)


def shortened(error: BaseException) -> str:
    """Return an error's type and first line, with its place in the user's code."""
    lines = str(error).strip().splitlines() or [""]
    line = lines[0] if len(lines[0]) <= LONGEST else f"{lines[0][:LONGEST]}…"
    line = line.rstrip(". ")
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(OURS)
        and not any(part in frame.filename for part in LIBRARIES)
    ]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{f': {line}' if line else ''}{place}"


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if the memory did not suffice: each framework has its own error for it."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in NO_MEMORY)


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
