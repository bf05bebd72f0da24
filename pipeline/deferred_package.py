"""Packages whose `__init__` runs when it is needed, for a library that imports all of its parts at once."""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from types import ModuleType


class DeferredPackage(ModuleType):
    """A package in `sys.modules` whose `__init__` has not run.

    Its modules can be imported, and the names in `ready` used, each of which a function returns. Any other
    name runs `__init__`, in this object, so that from then on it is the package as its authors made it.
    """

    ready: Mapping[str, Callable[[], object]]

    def __getattr__(self, name: str) -> object:
        if name in self.ready:
            return self.ready[name]()
        del self.ready
        self.__class__ = ModuleType
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def defer(name: str, ready: Mapping[str, Callable[[], object]]) -> None:
    """Put a package in `sys.modules` without running its `__init__`, unless it is there already."""
    spec = None if name in sys.modules else importlib.util.find_spec(name)
    if spec is None:
        return
    package = importlib.util.module_from_spec(spec)
    package.__class__ = DeferredPackage
    package.ready = ready
    sys.modules[name] = package
