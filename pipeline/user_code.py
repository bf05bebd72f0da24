"""Import of what the user names, `module:attribute`, and errors of the user's code in one line."""

import os
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.backend_specs import BACKENDS
from pipeline.errors import UserError

MOST_NAMES = 8
LONGEST = 300  # characters of an error's own message
ROOT = Path(__file__).resolve().parents[1]
OURS = tuple(f"{ROOT / name}/" for name in ("pipeline", *(b.package for b in BACKENDS.values())))
LIBRARIES = ("site-packages", "<frozen", sysconfig.get_path("stdlib"))
# In messages of NumPy, torch, XLA and Python.
NO_MEMORY = (
    "allocate memory",
    "unable to allocate",
    "out of memory",
    "resource_exhausted",
    "can't start new thread",  # its stack has no room
)


def import_attribute(path: str, key: str) -> Any:
    """Import an attribute of a module; `key` is the argument that names it.

    Raises:
        UserError: there is no such module or attribute, or the module cannot be imported.
        MemoryError: the memory does not suffice for the import.
    """
    module, attribute = check_path(path, key)
    try:
        loaded = import_module(module)
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise MemoryError from error
        raise _not_imported(path, key, module, error) from error
    found: Any = loaded
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise _no_attribute(path, key, loaded, attribute, found, name)
        found = getattr(found, name)
    return found


def check_path(path: str, key: str) -> tuple[str, str]:
    """Return module and attribute of an import path, and have the working folder on `sys.path`.

    Raises:
        UserError: it is not of the form `module:attribute`, or there is no such top-level module.
    """
    module, _, attribute = path.partition(":")
    if is_file(module):
        hint = f"Name the module: {module_of(module)}:{attribute or 'ATTRIBUTE'}."
        raise UserError(key, path, problem="it names a file", hint=hint)
    if not module or not attribute:
        start, _, end = path.strip(":").rpartition(".")
        close = f"{start}:{end}" if start and end else "my_models:Net"
        hint = f"Write it as module:attribute, such as {close}."
        raise UserError(key, path, problem="it is no import path", hint=hint)
    if not {"", os.getcwd()} & set(sys.path):  # a script's path has its own folder alone
        sys.path.append(os.getcwd())
    top = module.partition(".")[0]
    if top not in sys.modules and find_spec(top) is None:
        missing = ModuleNotFoundError(name=top)
        raise _not_imported(path, key, module, missing)
    return module, attribute


def is_file(module: str) -> bool:
    """Return True for a path of a file in place of a module's name."""
    return module.endswith(".py") or "/" in module


def module_of(file: str) -> str:
    """Return the name of the module in a file of the working folder."""
    return ".".join(part for part in Path(file).with_suffix("").parts if part not in (".", "/"))


def _not_imported(path: str, key: str, module: str, error: BaseException) -> UserError:
    missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
    if not missing:
        problem = f"its module cannot be imported: {shortened(error)}"
        return UserError(key, path, problem=problem, hint="Mend the module, or name another.")
    if module != missing and not module.startswith(f"{missing}."):
        problem = f"its module imports {missing}, which is not installed: {shortened(error)}"
        hint = f"Install it, such as by: pip install {missing.partition('.')[0]}"
        return UserError(key, path, problem=problem, hint=hint)
    here = sorted(
        {file.stem for file in Path.cwd().glob("*.py")}
        | {file.parent.name for file in Path.cwd().glob("*/__init__.py")}
    )
    close = _nearest(missing, here)
    known = f"The modules of this folder: {_listed(here)}." if here else ""
    hint = f"Did you mean {close}:{path.partition(':')[2]}?" if close else known
    problem = f"there is no module {missing} in this folder, on PYTHONPATH, or installed"
    return UserError(key, path, problem=problem, hint=hint)


def wrong_module(key: str, path: str | None, made: object, wanted: str) -> UserError:
    """Make the error for a user's model that is no module, or one of the other backend."""
    keys = {"torch": "model.torch", "flax": "model.jax", "equinox": "model.jax"}
    for kind in type(made).__mro__:
        library = kind.__module__.partition(".")[0]
        if kind.__name__ == "Module" and library in keys:
            name = f"{library}.nn.Module" if library == "torch" else f"module of {library}"
            hint = f"Set {keys[library]}={path}, and {key} to a model of this backend."
            return UserError(key, path, problem=f"it is a {name}", hint=hint)
    hint = "Name a class of one, or a function that returns one."
    return UserError(key, path, problem=f"it is no {wanted}", hint=hint)


def library_missing(library: str, key: str, value: object, error: ImportError) -> UserError:
    """Make the error for an optional library that is not installed, or of which a package is missing."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        problem = f"{library} cannot be imported: {shortened(error)}"
        return UserError(key, value, problem=problem, hint=f"Mend it: pip install -U {library}")
    missing = error.name.partition(".")[0]
    through = "" if missing == library else f"{library}, and this "
    problem = f"it needs {through}{missing}, which is not installed"
    return UserError(key, value, problem=problem, hint=f"pip install {missing}")


def _no_attribute(
    path: str, key: str, loaded: ModuleType, attribute: str, holder: object, name: str
) -> UserError:
    own = [known for known in vars(holder) if not known.startswith("_")]
    if holder is loaded:  # without what it has imported
        own = [
            known
            for known in own
            if not isinstance(value := vars(loaded)[known], ModuleType)
            and getattr(value, "__module__", loaded.__name__) == loaded.__name__
        ]
    close = _nearest(name, own)
    start = attribute.rpartition(".")[0]
    right = f"{path.partition(':')[0]}:{start + '.' if start else ''}{close}"
    hint = f"Did you mean {right}?" if close else f"It has {_listed(own) or 'nothing of its own'}."
    where = getattr(holder, "__name__", type(holder).__name__)
    file = getattr(sys.modules.get(loaded.__name__), "__file__", None)
    place = f" ({Path(file).name})" if file and holder is loaded else ""
    return UserError(key, path, problem=f"{where}{place} has no {name}", hint=hint)


def _nearest(word: str, names: Iterable[str]) -> str:
    return next(iter(get_close_matches(word, [*names], 1)), "")


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:MOST_NAMES]) + (", …" if len(names) > MOST_NAMES else "")


def imported_files() -> list[str]:
    """Return the files of the modules of this process that are neither ours, nor Python's, nor installed."""
    files = {getattr(module, "__file__", None) or "" for module in [*sys.modules.values()]}
    others = (file for file in files if os.path.isabs(file) and not file.startswith(OURS))
    return sorted(file for file in others if not any(part in file for part in LIBRARIES))


def shortened(error: BaseException) -> str:
    """Return an error's type and first line, with its place in the user's code."""
    lines = str(error).strip().splitlines() or [""]
    line = lines[0] if len(lines[0]) <= LONGEST else f"{lines[0][:LONGEST]}…"
    line = line.rstrip(". ")
    # A folder on PYTHONPATH may hold installed packages too.
    installed = [f"{path}/" for path in sys.path if path and any(Path(path).glob("*.dist-info"))]
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((*OURS, *installed))
        and not any(part in frame.filename for part in LIBRARIES)
    ]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{f': {line}' if line else ''}{place}"


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if the memory did not suffice: each framework has its own error for it."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in NO_MEMORY)
