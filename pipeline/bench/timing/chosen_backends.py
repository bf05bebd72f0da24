"""Backends of a benchmark: those that were asked for, or all that have the model."""

from collections.abc import Callable

from pipeline.bench.plan import Plan
from pipeline.config.models import OwnConfig
from pipeline.data import sources
from pipeline.errors import UserError
from pipeline.training.model_checks import check_model, no_side
from pipeline.user_code import check_path


def choose_backends(plan: Plan, note: Callable[[str], None]) -> list[str]:
    """Return the backends for which there is a model; note the others.

    Raises:
        UserError: one that was asked for has no model, or none has, or a path names no module.
    """
    found, candidates = [], plan.chosen_backends()
    for name in candidates:
        config = plan.config(name)
        key = config.backend.name
        try:
            check_model(config, sources.load(config.dataset, config.task))
            if isinstance(config.model, OwnConfig) and getattr(config.model, key) is None:
                raise no_side(f"model.{key}")
            found.append(name)
        except UserError as error:
            if plan.backends is not None or (name == candidates[-1] and not found):
                raise
            note(f"{name} is left out: {error}")
        if isinstance(config.model, OwnConfig) and (path := getattr(config.model, key)):
            check_path(path, f"model.{key}")
    return found
