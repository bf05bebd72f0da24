"""Child process that holds one model: it imports the user's module, and answers the core's calls.

    python -m pipeline.verify.sides.worker FILE_DESCRIPTOR

Started by `pipeline.verify.sides.side`.
"""

import inspect
import os
import signal
import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from pipeline.backend_specs import BACKENDS, BackendSpec
from pipeline.devices.process_exit import die_with_parent
from pipeline.errors import UserError
from pipeline.user_code import (
    import_attribute,
    imported_files,
    is_out_of_memory,
    shortened,
)
from pipeline.verify.sides.loss import Loss
from pipeline.verify.sides.refusals import (
    InputsRefused,
    describe_arrays,
    describe_call,
    describe_signature,
    parameters_of,
)
from pipeline.verify.sides.subject import Inputs, Subject


@dataclass(frozen=True)
class Opening:
    """A side as the user has named it."""

    key: str  # the argument, for messages
    path: str  # `module:attribute`
    options: Mapping[str, object]  # of the class or factory
    keywords: Mapping[str, object]  # of each call of the model
    inputs: Inputs  # an example
    layouts: Mapping[str, str]  # of images, by the input's name
    threads: int
    folders: tuple[str, ...] = ()  # of the import path, before all others
    arguments: tuple[object, ...] = ()  # of the class or factory, before its options
    offered: Mapping[str, object] = field(default_factory=dict)  # more options, if it takes them
    loss: str = ""  # `module:function`, of the outputs and the inputs


def open_model(opening: Opening) -> Subject:
    """Import a model, make it, and hand it to the adapter of its kind.

    Raises:
        UserError: there is no such model, it cannot be made, or it refuses its inputs.
        MemoryError: it does not fit the memory.
    """
    made = make(opening)
    spec = spec_of(made)
    if spec is None:
        kinds = "a torch.nn.Module, a Flax linen or NNX module, an Equinox module, or (init, apply)"
        hint = f"It is of type {type(made).__qualname__}."
        raise UserError(opening.key, opening.path, kinds, hint)
    backend = import_module(f"{spec.package}.verify")
    backend.prepare(opening.threads)  # again: a function may import its framework when it is called
    loss = Loss.load(f"--{opening.key}-loss", opening.loss) if opening.loss else None
    try:
        given = opening.inputs, opening.keywords, opening.layouts
        return backend.open_subject(made, *given, loss)
    except InputsRefused as error:
        raise refused(opening, made, error) from error


def refused(opening: Opening, made: object, refusal: InputsRefused) -> UserError:
    """Make the error for inputs on which a model does not run, with the way out."""
    keywords = describe_call((), opening.keywords) if opening.keywords else ""
    called = describe_arrays(refusal.inputs) + (f", {keywords}" if keywords else "")
    hints = [refusal.hint]
    integers = {
        name: array
        for name, array in refusal.inputs.items()
        if np.issubdtype(array.dtype, np.integer) and array.size
    }
    if isinstance(refusal.error, IndexError) and integers:
        hints.append(hint_of_range(integers, submodules(made)))
    elif isinstance(refusal.error, TypeError):
        taken = signature_of_call(made)
        hints.append(f"Its call takes {taken}: name them in --inputs and --call." if taken else "")
    else:
        hints.append("Describe what it takes with --inputs 'NAME=TYPE[SHAPE]'.")
    problem = f"it refuses {called}: {shortened(refusal.error)}"
    return UserError(opening.key, opening.path, problem=problem, hint=" ".join(filter(None, hints)))


def hint_of_range(integers: Inputs, modules: Iterable[object]) -> str:
    """Return the way out for integers beyond the end of a table."""
    most = ", ".join(f"those of {name} go up to {array.max()}" for name, array in integers.items())
    tables = sorted({rows for rows in map(rows_of, modules) if rows})
    name, array = next(iter(integers.items()))
    shape = ",".join(map(str, array.shape))
    has = f"; its tables have {', '.join(map(str, tables))} rows" if tables else ""
    end = tables[0] if tables else "ROWS"
    return f"Of the integers {most}{has}. Set the range: --inputs '{name}=int32[{shape}] 0..{end}'."


def submodules(made: object) -> Iterable[object]:
    """Return the modules inside a model, where its kind lists them."""
    modules = getattr(made, "modules", None)
    return modules() if callable(modules) else ()


def rows_of(module: object) -> int | None:
    """Return the number of rows of a table."""
    rows = getattr(module, "num_embeddings", None)
    return rows if isinstance(rows, int) else None


def signature_of_call(made: Any) -> str:
    """Return the names of a model's inputs, with those that have a default in brackets."""
    call = made[-1] if isinstance(made, tuple) else getattr(made, "forward", made)
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):
        return ""
    return ", ".join(p.name if p.default is p.empty else f"[{p.name}]" for p in parameters)


def make(opening: Opening) -> Any:
    """Import what the path names; call it with the options if it is a class or a function."""
    sys.path[:] = [*opening.folders, *(path for path in sys.path if path not in opening.folders)]
    found = import_attribute(opening.path, opening.key)
    for spec in BACKENDS.values():
        if any(framework in sys.modules for framework in spec.frameworks):
            import_module(f"{spec.package}.verify").prepare(opening.threads)
    is_model = spec_of(found) is not None and not isinstance(found, type)
    if is_model or not callable(found):
        return found
    taken = {parameter.name for parameter in parameters_of(found)} - opening.options.keys()
    offered = {name: value for name, value in opening.offered.items() if name in taken}
    randomness = random_keywords(found, opening)
    try:
        return found(*opening.arguments, **opening.options, **offered, **randomness)
    except (Exception, SystemExit) as error:
        if is_out_of_memory(error):
            raise MemoryError from error
        called = describe_call(opening.arguments, opening.options)
        problem = f"called with {called}: {shortened(error)}"
        takes = describe_signature(found, f"--options or --{opening.key}-options")
        hint = (
            takes if isinstance(error, TypeError) else f"Mend it, or give it other options. {takes}"
        )
        raise UserError(opening.key, opening.path, problem=problem, hint=hint) from error


def random_keywords(found: Any, opening: Opening) -> dict[str, Any]:
    """Return the generators that a class or function asks for: no text of the user's can give them."""
    given = opening.options.keys()
    required = {
        parameter.name
        for parameter in parameters_of(found)[len(opening.arguments) :]
        if parameter.default is parameter.empty and parameter.name not in given
    }
    keywords: dict[str, Any] = {}
    for spec in BACKENDS.values():
        if any(framework in sys.modules for framework in spec.frameworks):
            keywords |= import_module(f"{spec.package}.verify").random_keywords(required)
    return keywords


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


def serve(connection: Connection) -> None:
    """Answer calls until the other end is closed: `("open", opening)`, then `(method, args, kwargs)`."""
    subject: Subject | None = None
    while True:
        try:
            call, *rest = connection.recv()
        except (EOFError, OSError):
            return
        try:
            if call == "open":
                subject = open_model(rest[0])
                answer = "done", subject.description
            elif call == "imported_files":
                answer = "done", imported_files()
            else:
                args, kwargs = rest
                answer = "done", getattr(subject, call)(*args, **kwargs)
        except UserError as error:
            answer = "user error", error.parts
        except Exception as error:
            full = traceback.format_exc() if os.environ.get("HYDRA_FULL_ERROR") == "1" else ""
            kind = "memory" if is_out_of_memory(error) else "error"
            answer = kind, full or shortened(error)
        try:
            connection.send(answer)
        except OSError:  # nobody waits for it any more
            return


def main() -> None:
    """Serve the process that has started this one; prints of the user's code go to stderr."""
    die_with_parent()
    connection = Connection(int(sys.argv[1]))
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C: the other process ends, and then this one
    sys.stdout = sys.stderr
    sys.path.insert(0, os.getcwd())
    np.seterr(all="ignore")
    serve(connection)


if __name__ == "__main__":
    main()
