"""Packages whose `__init__` runs when it is needed, for a library that imports all of its parts at once."""

import sys
from collections.abc import Callable, Mapping
from importlib.abc import Loader
from importlib.util import find_spec, module_from_spec
from types import ModuleType


class DeferredPackage(ModuleType):
    """A package whose `__init__` has not run; `made` is the empty module that its `loader` fills.

    Its modules can be imported, and the names in `ready` used, each of which a function returns. Any other
    name runs `__init__`, in this object: from then on it holds what its authors put into it.
    """

    def __init__(
        self, made: ModuleType, loader: Loader, ready: Mapping[str, Callable[[], object]]
    ) -> None:
        super().__init__(made.__name__)
        vars(self).update(vars(made))
        self._loader: Loader | None = loader
        self._ready = ready

    def __getattr__(self, name: str) -> object:
        if self._loader is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        if name in self._ready:
            return self._ready[name]()
        loader, self._loader = self._loader, None
        loader.exec_module(self)
        return getattr(self, name)


def defer(name: str, ready: Mapping[str, Callable[[], object]]) -> None:
    """Put a package in `sys.modules` without running its `__init__`, unless it is there already."""
    spec = None if name in sys.modules else find_spec(name)
    if spec is not None and spec.loader is not None:
        sys.modules[name] = DeferredPackage(module_from_spec(spec), spec.loader, ready)
