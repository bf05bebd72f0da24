"""Values at step 0 that the two models of a user's pair share: those that the first of them makes itself."""

from collections.abc import Callable

from pipeline.backend_specs import BACKENDS
from pipeline.commands import command
from pipeline.config.experiment import Config
from pipeline.config.models import AUTO_NAMES, Initializer, OwnConfig
from pipeline.console import print_and_log
from pipeline.errors import UserError
from pipeline.storage.portable_state import Arrays, PortableState, Shapes

MAX_NAMED = 6


def backend_of_values(config: Config) -> str | None:
    """Return the backend whose model makes the values at step 0, if it is not the run's own."""
    model = config.model
    if not isinstance(model, OwnConfig) or model.init is not Initializer.own:
        return None
    given = [name for name in BACKENDS if getattr(model, name, None)]
    is_pair = len(given) > 1 and config.backend.name in given
    return given[0] if is_pair and given[0] != config.backend.name else None


def fill(
    initial: PortableState,
    parameters: Shapes,
    buffers: Shapes,
    own: Callable[[], PortableState],
    config: Config,
    is_compared: bool,
) -> PortableState:
    """Return the values at step 0 of a pair's second model: those of the first, by canonical name.

    Args:
        initial: values that the first model makes.
        parameters: names and shapes of the second model's parameters.
        buffers: those of its buffers.
        own: returns the values that the second model makes itself.
        config: the config of the run.
        is_compared: a comparison tells of parameters that one model alone has.

    Raises:
        UserError: without `model.names`, the two do not have the same parameters.
    """
    model = config.model
    assert isinstance(model, OwnConfig)
    known, known_buffers = shapes_of(initial.parameters), shapes_of(initial.buffers)
    lacking, more = _others(parameters, known), _others(known, parameters)
    if (lacking or more) and not is_compared:
        first = backend_of_values(config) or ""
        words = "; ".join(
            f"in {backend} only: {', '.join(names[:MAX_NAMED])}{'…' * (len(names) > MAX_NAMED)}"
            for backend, names in ((first, more), (config.backend.name, lacking))
            if names
        )
        if model.names:
            print_and_log(f"parameters without a counterpart keep their own values: {words}")
        else:
            key = f"model.{config.backend.name}"
            hint = (
                f"Set model.names={AUTO_NAMES}, which finds what belongs together, or to a file: "
                f"{command('parity')} with these overrides writes one. To start each model on its own, "
                "name it alone."
            )
            problem = f"its parameters are not those of model.{first}: {words}"
            raise UserError(key, getattr(model, config.backend.name), problem=problem, hint=hint)
    missing = lacking or _others(buffers, known_buffers)
    rest = own() if missing else initial
    return PortableState(
        0,
        _taken(parameters, initial.parameters, rest.parameters),
        _taken(buffers, initial.buffers, rest.buffers),
    )


def shapes_of(arrays: Arrays) -> Shapes:
    """Return the shapes of arrays."""
    return {name: array.shape for name, array in arrays.items()}


def _others(shapes: Shapes, known: Shapes) -> list[str]:
    """Return the names that are not known, or have another shape there."""
    return [f"{name} {list(shape)}" for name, shape in shapes.items() if known.get(name) != shape]


def _taken(shapes: Shapes, initial: Arrays, own: Arrays) -> Arrays:
    return {
        name: initial[name]
        if name in initial and initial[name].shape == tuple(shape)
        else own[name]
        for name, shape in shapes.items()
    }
