"""Weights to start from, out of a file or a run."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.config.experiment import Config
from pipeline.run.start.misfit import KEY, Misfit, unknown_pattern
from pipeline.run.start.namings import Translation, published, translated
from pipeline.run.transfer import export_tested
from pipeline.storage.checkpoints import checkpoint_at
from pipeline.storage.portable_file import PortableCheckpoint
from pipeline.storage.portable_state import STATISTICS, Arrays, PortableState, Shapes
from pipeline.storage.run_identity import IDENTITY
from pipeline.storage.weights_file import prefixes, read_weights
from pipeline.verify.names.names_file import NamesFile

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
        return read_weights(path, KEY, also="the folder of a run")
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
        weights: arrays of the file, by its names; None leaves `start` as it is.
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
            raise unknown_pattern(pattern, [*values])
    wanted, given = _kept(values, patterns), _kept(named, patterns)
    # A file may lack statistics, as those of a model that was only trained by others have none.
    lacking = [n for n in wanted if n not in named and not n.endswith(STATISTICS)]
    more = [name for name in given if name not in values and not _is_tied(name, named, shapes)]
    other = [name for name in wanted if name in named and named[name].shape != shapes[name]]
    if lacking or other or more:
        raise Misfit(
            lacking={name: shapes[name] for name in lacking},
            other={name: (named[name].shape, shapes[name]) for name in other},
            more={name: named[name].shape for name in more},
            wanted=len([name for name in wanted if not name.endswith(STATISTICS)]),
            has_names=any(name in named for name in wanted),
        ).error(config, found.source)
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


def _kept(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    return [n for n in names if not any(fnmatchcase(n, pattern) for pattern in patterns)]
