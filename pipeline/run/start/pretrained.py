"""Weights to start from, out of a file or a run."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from pipeline.config.experiment import Config
from pipeline.errors import UserError
from pipeline.run.transfer import export_tested
from pipeline.storage.checkpoints import checkpoint_at
from pipeline.storage.portable_file import PortableCheckpoint
from pipeline.storage.portable_state import STATISTICS, Arrays, PortableState
from pipeline.storage.run_identity import IDENTITY
from pipeline.storage.weights_file import prefixes, read_weights

KEY = "model.weights"
MAX_NAMED = 4

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
    if not (path.is_dir() or is_of_run):
        return read_weights(path, KEY)
    [portable] = call(partial(export_tested, path, KEY))
    return (portable.state.averages or portable.state.parameters) | portable.state.buffers


def start_from(start: PortableState, weights: Arrays | None, config: Config) -> PortableState:
    """Return the values at step 0 with those of a file in place of all that `model.weights_skip` leaves.

    A prefix that all names of the file have, or all of the model, is no difference.

    Raises:
        UserError: a value is missing, has another shape, or is not in the model.
    """
    if weights is None:
        return start
    values, patterns = start.parameters | start.buffers, config.model.weights_skip
    ours, theirs = prefixes([*start.parameters], weights)
    named = {ours + name.removeprefix(theirs): array for name, array in weights.items()}
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in {*values, *named}):
            problem = f"no parameter has such a name; there are {_listed(values)}"
            raise UserError("model.weights_skip", pattern, problem=problem)
    wanted, given = _kept(values, patterns), _kept(named, patterns)
    # A file may lack statistics, as those of a model that was only trained by others have none.
    lacking = [n for n in wanted if n not in named and not n.endswith(STATISTICS)]
    more = [name for name in given if name not in values]
    other = [
        f"{name} is {[*named[name].shape]}, in the model {[*values[name].shape]}"
        for name in wanted
        if name in named and named[name].shape != values[name].shape
    ]
    problems = [
        f"{words}{_listed(names)}"
        for words, names in (("it lacks ", lacking), ("", other), ("the model has no ", more))
        if names
    ]
    if problems:
        names = [*lacking, *(text.split()[0] for text in other), *more]
        roots = dict.fromkeys(f"{name.rpartition('.')[0]}.*" for name in names)
        hint = f"To start these by model.init, set model.weights_skip=[{','.join(roots)}]."
        problem = f"it does not fit: {'; '.join(problems)}"
        raise UserError(KEY, config.model.weights, problem=problem, hint=hint)
    taken = {name: named[name] for name in wanted if name in named}
    return replace(
        start,
        parameters={name: taken.get(name, value) for name, value in start.parameters.items()},
        buffers={name: taken.get(name, value) for name, value in start.buffers.items()},
    )


def _kept(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    return [n for n in names if not any(fnmatchcase(n, pattern) for pattern in patterns)]


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
