"""Child process that holds one model: it imports the user's module, and answers the core's calls.

    python -m pipeline.verify.sides.worker FILE_DESCRIPTOR

Started by `pipeline.verify.sides.side`.
"""

import os
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.backend_specs import BACKENDS, BackendSpec
from pipeline.errors import UserError
from pipeline.verify.sides.subject import Inputs, Subject
from pipeline.verify.time_limit import time_limit

LIMITS = {"lane": 300.0}  # seconds of a call: a compiler may take for ever
HINT = "Name it as module:attribute, from this folder or PYTHONPATH."


@dataclass(frozen=True)
class Opening:
    """What a side is, as the user has named it."""

    key: str  # the argument, for messages
    path: str  # `module:attribute`
    options: Mapping[str, object]  # of the class or factory
    keywords: Mapping[str, object]  # of each call of the model
    inputs: Inputs  # an example
    layouts: Mapping[str, str]  # of images, by the input's name
    threads: int
    folders: tuple[str, ...] = ()  # of the import path, before all others
    arguments: tuple[object, ...] = ()  # of the class or factory, before its options


def open_model(opening: Opening) -> Subject:
    """Import a model, make it, and hand it to the adapter of its kind.

    Raises:
        UserError: there is no such model, it cannot be made, or nobody knows its kind.
    """
    made = make(opening)
    spec = spec_of(made)
    if spec is None:
        kinds = "a torch.nn.Module, a Flax linen or NNX module, an Equinox module, or (init, apply)"
        raise UserError(opening.key, opening.path, kinds, f"It is a {type(made).__qualname__}.")
    backend = import_module(f"{spec.package}.verify")
    return backend.open_subject(made, opening.inputs, opening.keywords, opening.layouts)


def make(opening: Opening) -> Any:
    """Import what the path names; call it with the options if it is a class or a function."""
    module, _, attribute = opening.path.partition(":")
    if not module or not attribute:
        raise UserError(opening.key, opening.path, problem="it is no import path", hint=HINT)
    sys.path[:] = [*opening.folders, *(path for path in sys.path if path not in opening.folders)]
    try:
        found: Any = import_module(module)
        for name in attribute.split("."):
            found = getattr(found, name)
    except ModuleNotFoundError as error:
        raise UserError(opening.key, opening.path, problem=str(error).lower(), hint=HINT) from error
    except AttributeError as error:
        known = [name for name in vars(import_module(module)) if not name.startswith("_")]
        hint = f"It has {', '.join(known[:12])}."
        raise UserError(opening.key, opening.path, problem=str(error), hint=hint) from error
    except Exception as error:
        problem = f"its module cannot be imported: {shortened(error)}"
        raise UserError(opening.key, opening.path, problem=problem) from error
    for spec in BACKENDS.values():
        if any(framework in sys.modules for framework in spec.frameworks):
            import_module(f"{spec.package}.verify").prepare(opening.threads)
    is_model = spec_of(found) is not None and not isinstance(found, type)
    if is_model or not callable(found):
        return found
    try:
        return found(*opening.arguments, **opening.options)
    except Exception as error:
        given = [*map(repr, opening.arguments)]
        given += [f"{name}={value!r}" for name, value in opening.options.items()]
        problem = f"called with {', '.join(given) or 'nothing'}: {shortened(error)}"
        raise UserError(opening.key, opening.path, problem=problem) from error


def spec_of(made: object) -> BackendSpec | None:
    """Return the backend that knows an object's kind, by its classes; functions are the last one's."""
    holders = [made, getattr(made, "module", None)]
    if isinstance(made, tuple) and len(made) == 2 and not all(map(callable, made)):
        holders.append(made[0])  # a model with its state
    packages = {cls.__module__.partition(".")[0] for held in holders for cls in type(held).__mro__}
    for spec in BACKENDS.values():
        if packages & set(spec.frameworks):
            return spec
    pair = (
        made
        if isinstance(made, tuple)
        else (getattr(made, "init", None), getattr(made, "apply", None))
    )
    is_pair = len(pair) == 2 and all(map(callable, pair))
    return (
        next((spec for spec in BACKENDS.values() if spec.takes_functions), None)
        if is_pair
        else None
    )


def shortened(error: BaseException) -> str:
    """Return an error's type and first line, with its place in the user's code."""
    lines = str(error).strip().splitlines() or [""]
    ours = ("site-packages", f"{os.sep}pipeline{os.sep}verify", "importlib")
    traced = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in traced if not any(part in frame.filename for part in ours)]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {lines[0][:300]}{place}"


def serve(connection: Connection) -> None:
    """Answer calls until the other end is closed: `("open", opening)`, then `(method, args, kwargs)`."""
    subject: Subject | None = None
    while True:
        try:
            call, *rest = connection.recv()
        except EOFError:
            return
        try:
            if call == "open":
                subject = open_model(rest[0])
                connection.send(("done", subject.description))
            else:
                args, kwargs = rest
                with time_limit(LIMITS.get(call)):
                    answer = getattr(subject, call)(*args, **kwargs)
                connection.send(("done", answer))
        except UserError as error:
            connection.send(("user error", error.parts))
        except MemoryError:
            connection.send(("memory", ""))
        except Exception as error:
            full = traceback.format_exc() if os.environ.get("HYDRA_FULL_ERROR") == "1" else ""
            connection.send(("error", full or shortened(error)))


def main() -> None:
    """Serve the process that has started this one; prints of the user's code go to stderr."""
    connection = Connection(int(sys.argv[1]))
    sys.stdout = sys.stderr
    sys.path.insert(0, os.getcwd())
    np.seterr(all="ignore")
    serve(connection)


if __name__ == "__main__":
    main()
