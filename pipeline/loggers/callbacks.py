"""A user's own callbacks: called after each evaluation, the same on every backend.

A callback is a function of (step, metrics, weights, tracker), or a class whose instances are called so:

- `step`: updates done;
- `metrics`: the last value of every logged key;
- `weights`: a function that returns the values that were evaluated, by canonical name and in this order: the
  parameters (with `train.ema` their averages) and running statistics. Call it before the callback returns;
- `tracker`: `log`, `log_image` and `log_table`.

Only the main process calls it. It starts anew when a run is resumed, and goes on at the next evaluation.
A backend's own kind of callback, as Lightning's, goes to its loop as it is.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import signature
from typing import TYPE_CHECKING, Any

from pipeline.backend_specs import BACKENDS
from pipeline.errors import UserError
from pipeline.loggers.tracker import Tracker
from pipeline.user_code import import_attribute, is_out_of_memory, shortened

if TYPE_CHECKING:
    from pipeline.storage.portable_state import Arrays

KEY = "callbacks"
ARGUMENTS = "(step, metrics, weights, tracker)"

Callback = Callable[[int, Mapping[str, float], Callable[[], "Arrays"], Tracker], object]


@dataclass(frozen=True)
class Callbacks:
    """The callbacks of a run, by import path: the neutral ones, and those that the backend's loop calls."""

    neutral: Sequence[tuple[str, Callback]] = ()
    native: Sequence[tuple[str, Any]] = field(default=())

    def call(self, step: int, weights: Callable[[], "Arrays"], tracker: Tracker) -> None:
        """Call the neutral ones after the evaluation of `step`, in their order.

        Raises:
            UserError: one has failed.
        """
        for path, callback in self.neutral:
            try:
                callback(step, dict(tracker.last), lambda: dict(sorted(weights().items())), tracker)
            except Exception as error:  # a user's code may raise anything
                raise failed(path, step, error) from error


def failed(path: str, step: int, error: Exception) -> Exception:
    """Return the error of a run whose callback has failed after `step`."""
    if isinstance(error, UserError) or is_out_of_memory(error):
        return error
    problem = f"it failed after step {step}: {shortened(error)}"
    hint = "Mend it, and type the command again: with resume=auto it goes on after the last checkpoint."
    return UserError(KEY, path, problem=problem, hint=hint)


def load_callbacks(paths: Sequence[str], backend: str) -> Callbacks:
    """Import the callbacks of a run, and make those that are classes.

    Raises:
        UserError: one cannot be imported or made, does not take the arguments, or is of another backend.
    """
    neutral: list[tuple[str, Callback]] = []
    native: list[tuple[str, Any]] = []
    for path in paths:
        callback = made(path)
        owner = backend_of(callback)
        if owner == backend:
            native.append((path, callback))
            continue
        if owner is not None and not callable(callback):
            problem = f"it is a {BACKENDS[owner].callback}, which only backend={owner} runs"
            hint = f"Write a function of {ARGUMENTS}, which every backend calls."
            raise UserError(KEY, path, problem=problem, hint=hint)
        check_callable(path, callback)
        neutral.append((path, callback))
    return Callbacks(neutral, native)


def made(path: str) -> Any:
    """Import a callback; make one that is a class."""
    found = import_attribute(path, KEY)
    if not isinstance(found, type):
        return found
    try:
        return found()
    except Exception as error:  # a user's code may raise anything
        problem, hint = f"it cannot be made: {shortened(error)}", "It is made without arguments."
        raise UserError(KEY, path, problem=problem, hint=hint) from error


def backend_of(callback: object) -> str | None:
    """Return the backend whose own kind of callback this is; None for a neutral one."""
    bases = {f"{base.__module__}.{base.__qualname__}" for base in type(callback).__mro__}
    return next((name for name, spec in BACKENDS.items() if spec.callback in bases), None)


def check_callable(path: str, callback: Any) -> None:
    """Refuse what cannot be called with the arguments of a callback."""
    if not callable(callback):
        problem = f"it is a {type(callback).__name__}, which cannot be called"
        hint = f"Name a function of {ARGUMENTS}, or a class with such a method __call__."
        raise UserError(KEY, path, problem=problem, hint=hint)
    try:
        known = signature(callback)
    except ValueError:  # of a function in C
        return
    try:
        known.bind(0, {}, dict, None)
    except TypeError as error:
        problem = f"it takes {known}, and is called with {ARGUMENTS}"
        raise UserError(KEY, path, problem=problem) from error
