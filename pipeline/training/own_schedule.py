"""A user's own learning-rate schedule, checked before and while it is used."""

from collections.abc import Callable
from inspect import signature
from math import isfinite
from typing import Any

from pipeline.config.schedules import OwnScheduleConfig
from pipeline.errors import UserError
from pipeline.user_code import import_attribute, shortened

KEY = "schedule.function"
CHECKED = 1000  # steps, spread over the run, that are checked before it starts


def own(config: OwnScheduleConfig, total: int) -> Callable[[int], float]:
    """Import a user's function of (step, total), or of the step alone; it returns a finite factor, 0 or more.

    Raises:
        UserError: there is none, it does not take these arguments, or it returns no such number. The
            function that is returned raises it too.
    """
    function, path = import_function(config), config.function or ""
    arguments = arguments_of(function, path, total, config.options)

    def factor(step: int) -> float:
        try:
            value = function(step, *arguments, **config.options)
        except Exception as error:  # a user's code may raise anything
            problem = f"it fails at step {step}: {shortened(error)}"
            raise UserError(KEY, path, problem=problem) from error
        return checked(value, path, step)

    for step in sorted({*range(0, total, -(-total // CHECKED)), total - 1}):
        factor(step)
    return factor


def import_function(config: OwnScheduleConfig) -> Any:
    """Import what `schedule.function` names."""
    if not config.function:
        hint = "Set schedule.function=module:name."
        raise UserError(KEY, None, "an import path when schedule=own", hint)
    return import_attribute(config.function, KEY)


def arguments_of(
    function: Any, path: str, total: int, options: dict[str, object]
) -> tuple[int, ...]:
    """Return the arguments between the step and the options: the total, if the function takes it."""
    if not callable(function):
        raise UserError(KEY, path, "a function of (step, total)")
    try:
        known = signature(function)
    except ValueError:  # of a function in C
        return (total,)
    for arguments in ((total,), ()):
        try:
            known.bind(0, *arguments, **options)
        except TypeError:
            continue
        return arguments
    problem = f"it takes {known}, and is called with (step, total, **schedule.options)"
    raise UserError(KEY, path, problem=problem)


def checked(value: Any, path: str, step: int) -> float:
    """Return a factor as a float; refuse what is no finite number, 0 or more."""
    try:
        factor = float(value)
    except (TypeError, ValueError):
        factor = None
    if factor is None or not isfinite(factor) or factor < 0:
        problem = f"at step {step} it returns {value!r}, and a factor is a finite number, 0 or more"
        raise UserError(KEY, path, problem=problem)
    return factor
