"""Scopes of modules that open none themselves, so that each operation knows its layer."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import wraps
from threading import RLock
from typing import Any

import jax

LOCK = RLock()  # two models may be called by two threads of one process


# Takes the path of a module, the module, its class's call, and its arguments; returns the call's result.
Around = Callable[[str, Any, Callable, tuple, dict], Any]


def _plainly(path: str, module: Any, call: Callable, args: tuple, kwargs: dict) -> Any:
    del path
    return call(module, *args, **kwargs)


@contextmanager
def named(modules: Mapping[str, object], around: Around = _plainly) -> Generator[dict[int, str]]:
    """While active, open a scope with the name of a module whenever it is called.

    `modules` are by their dotted paths, and `around` makes the call. Yields the paths by `id` of the module;
    more may be added.
    """
    paths = {id(module): path for path, module in modules.items() if path}
    owners = {_owner_of_call(type(module)) for module in modules.values()} - {None}
    entered: list[str] = []  # paths of the modules being called, innermost last

    def scoped(call: Callable) -> Callable:
        @wraps(call)
        def open_scope(self: object, *args: Any, **kwargs: Any) -> Any:
            path = paths.get(id(self))
            if path is None or path in entered:
                return call(self, *args, **kwargs)
            outer = f"{entered[-1]}." if entered else ""
            entered.append(path)
            try:
                with jax.named_scope(path.removeprefix(outer).replace(".", "/")):
                    return around(path, self, call, args, kwargs)
            finally:
                entered.pop()

        return open_scope

    with LOCK:
        calls = {owner: owner.__dict__["__call__"] for owner in owners if owner}
        try:
            for owner, call in calls.items():
                type.__setattr__(owner, "__call__", scoped(call))
            yield paths
        finally:
            for owner, call in calls.items():
                type.__setattr__(owner, "__call__", call)


def _owner_of_call(kind: type) -> type | None:
    """Return the class that defines the call of a class."""
    return next((base for base in kind.__mro__ if "__call__" in base.__dict__), None)
