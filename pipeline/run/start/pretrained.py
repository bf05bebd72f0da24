"""Weights to start from, out of a file or a run."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.config.experiment import Config
from pipeline.errors import UserError
from pipeline.run.start.namings import Translation, published, translated
from pipeline.run.transfer import export_tested
from pipeline.storage.checkpoints import checkpoint_at
from pipeline.storage.portable_file import PortableCheckpoint
from pipeline.storage.portable_state import STATISTICS, Arrays, PortableState, Shapes
from pipeline.storage.run_identity import IDENTITY
from pipeline.storage.weights_file import prefixes, read_weights
from pipeline.verify.alignment.names import similarity
from pipeline.verify.names.names_file import NamesFile

KEY = "model.weights"
MAX_NAMED = 4
ALIKE = 0.5  # similarity of names from which one is suggested

Export = Callable[[], list[PortableCheckpoint]]


def weights_of(
    config: Config, call: Callable[[Export], list[PortableCheckpoint]] = lambda export: export()
) -> Arrays | None:
    """Read the weights that `model.weights` names; None without it.

    Those of a run of any backend, or of one of its checkpoints, are what `mode=test` would test. `call`
    exports them; with several processes in one of them.
    """
    if config.model.weights is None:
        return None
    path = Path(config.model.weights).expanduser()
    is_of_run = checkpoint_at(path) is not None and (path.parents[1] / IDENTITY).is_file()
    if not is_of_run and not (path / IDENTITY).is_file():
        return read_weights(path, KEY)
    [portable] = call(partial(export_tested, path, KEY))
    return (portable.state.averages or portable.state.parameters) | portable.state.buffers


def start_from(
    start: PortableState,
    weights: Arrays | None,
    config: Config,
    names: NamesFile | None = None,
    native: Callable[[Arrays], Arrays] | None = None,
) -> PortableState:
    """Return the values at step 0 with those of a file in place of all that `model.weights_skip` leaves.

    A prefix that all names of the file have, or all of the model, is no difference.

    Args:
        start: values by canonical name.
        weights: those of the file, by its names; None leaves `start` as it is.
        config: names the file, and the values to leave out.
        names: pairs of names, of which one may be the file's.
        native: translates arrays that have the names and layouts of the backend's own model.

    Raises:
        UserError: a value is missing, has another shape, or is not in the model.
    """
    if weights is None:
        return start
    values, patterns = start.parameters | start.buffers, config.model.weights_skip
    shapes = {name: array.shape for name, array in values.items()}
    found = _named_as(shapes, weights, config, names, native)
    named = found.arrays
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in {*values, *named}):
            problem = f"no parameter has such a name; there are {_listed(values)}"
            raise UserError("model.weights_skip", pattern, problem=problem)
    wanted, given = _kept(values, patterns), _kept(named, patterns)
    # A file may lack statistics, as those of a model that was only trained by others have none.
    lacking = [n for n in wanted if n not in named and not n.endswith(STATISTICS)]
    more = [name for name in given if name not in values and not _is_tied(name, named, shapes)]
    other = [name for name in wanted if name in named and named[name].shape != shapes[name]]
    if lacking or other or more:
        rest = {name: named[name].shape for name in more}
        free = {name: shapes[name] for name in lacking}
        problems = [
            _all_of("it lacks ", lacking, lambda name: _with_nearest(name, shapes[name], rest)),
            _all_of("", other, lambda name: _two_shapes(name, named[name].shape, shapes[name])),
            _all_of("the model has no ", more, lambda name: _with_nearest(name, rest[name], free)),
        ]
        roots = dict.fromkeys(_root(name) for name in (*lacking, *other, *more))
        hint = f"To start these by model.init, set model.weights_skip=[{','.join(roots)}]."
        if not any(name in named for name in wanted):
            hint = (
                "None of its names is the model's: they belong into model.names=FILE, "
                "or it is of another model."
            )
        elif lacking and more:
            hint = f"Other names of the same arrays belong into model.names=FILE. {hint}"
        as_named = f"{found.source} does not fit" if found.source else "it does not fit"
        problem = f"{as_named}: {'; '.join(filter(None, problems))}"
        raise UserError(KEY, config.model.weights, problem=problem, hint=hint)
    taken = {name: named[name] for name in wanted if name in named}
    return replace(
        start,
        parameters={name: taken.get(name, value) for name, value in start.parameters.items()},
        buffers={name: taken.get(name, value) for name, value in start.buffers.items()},
    )


def _named_as(
    shapes: Shapes,
    weights: Arrays,
    config: Config,
    names: NamesFile | None,
    native: Callable[[Arrays], Arrays] | None,
) -> Translation:
    """Return a file's arrays by canonical names, in the reading in which most of them fit the model."""
    ours, theirs = prefixes([*shapes], weights)
    plain = {ours + name.removeprefix(theirs): array for name, array in weights.items()}
    readings = [Translation(plain)]
    if names:
        readings.append(translated(names.rows, weights, shapes))
    if native:
        readings.append(Translation(native(weights)))
    readings += published(config.model.name, weights, shapes)

    def fitting(reading: Translation) -> int:
        arrays = reading.arrays
        return sum(n in arrays and arrays[n].shape == shape for n, shape in shapes.items())

    return max(readings, key=fitting)


def _is_tied(name: str, named: Arrays, shapes: Shapes) -> bool:
    """Return whether an array that the model has not is the same as one that it has, as of tied layers."""
    array = named[name]
    return any(
        named[other].shape == array.shape and np.array_equal(named[other], array)
        for other in shapes
        if other in named
    )


def _root(name: str) -> str:
    """Return the pattern of a layer, the same in all blocks."""
    first, *rest = name.split(".")
    if not rest:
        return name
    parts = [first, *("*" if part.isdecimal() else part for part in rest[:-1])]
    return ".".join([*parts, "*"])


def _two_shapes(name: str, given: Sequence[int], wanted: Sequence[int]) -> str:
    turned = " (transposed)" if [*given] == [*wanted][::-1] else ""
    return f"{name} is {[*given]}, in the model {[*wanted]}{turned}"


def _with_nearest(name: str, shape: Sequence[int], others: Shapes) -> str:
    """Return a name with its shape, and the most similar one among others of that shape, or transposed."""
    alike = [other for other, its in others.items() if sorted(its) == sorted(shape)]
    nearest = max(alike, key=lambda other: similarity(name, other), default="")
    if not nearest or similarity(name, nearest) < ALIKE:
        return f"{name} {[*shape]}"
    turned = "" if tuple(others[nearest]) == tuple(shape) else ", transposed"
    return f"{name} {[*shape]} (is it {nearest}{turned}?)"


def _all_of(words: str, names: Sequence[str], shown: Callable[[str], str]) -> str:
    return f"{words}{_listed(names, shown)}" if names else ""


def _kept(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    return [n for n in names if not any(fnmatchcase(n, pattern) for pattern in patterns)]


def _listed(names: Iterable[str], shown: Callable[[str], str] = str) -> str:
    names = list(names)
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(map(shown, names[:MAX_NAMED])) + more
