"""Search space, and the overrides that all trials share."""

from collections.abc import Sequence

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Transformer
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from pipeline.config.fields import require
from pipeline.errors import UserError
from pipeline.sweep.job_names import check_values

Space = dict[str, BaseDistribution]


def split_overrides(
    arguments: Sequence[str], loader: ConfigLoader | None = None
) -> tuple[Space, list[str]]:
    """Split overrides into the search space, which must not be empty, and those that all trials share.

    The last of several overrides for one key counts, so the command line wins over a preset. Hydra's
    `loader` resolves a `glob`.
    """
    space: Space = {}
    fixed: dict[str, str] = {}
    for override in OverridesParser.create(loader).parse_overrides(list(arguments)):
        key = override.key_or_group
        space.pop(key, None)
        fixed.pop(key, None)
        if override.is_sweep_override():
            space[key] = distribution(override)
        else:
            fixed[key] = str(override.input_line)
    example = "'optimizer.lr=tag(log,interval(1e-4,1e-1))'"
    hint = f"Choose a preset, such as hydra/sweeper=optuna_cnn, or give an interval: {example}."
    require(bool(space), "hydra.sweeper.params", "null", "a space to search", hint)
    return space, list(fixed.values())


def distribution(override: Override) -> BaseDistribution:
    """Convert `choice`, `range` or `interval` of Hydra's grammar to an Optuna distribution."""
    values = override.value()
    try:
        if isinstance(values, IntervalSweep):
            low, high, log = values.start, values.end, "log" in values.tags
            assert low is not None  # the grammar requires both
            assert high is not None
            if isinstance(low, int) and isinstance(high, int):
                return IntDistribution(low, high, log=log)
            return FloatDistribution(low, high, log=log)
        check_values(override)
        if isinstance(values, RangeSweep) and not values.shuffle:
            steps = values.range()
            if isinstance(steps, range):
                low, high = sorted((steps[0], steps[-1]))
                return IntDistribution(low, high, step=abs(steps.step))
            floats = list(steps)
            return FloatDistribution(min(floats), max(floats), step=abs(values.step))
        # Transformer.encode writes lists and maps as text.
        choices = [
            value if isinstance(value, bool | int | float) else str(value)
            for value in override.sweep_iterator(Transformer.encode)
        ]
        return CategoricalDistribution(choices)
    except ValueError as error:
        key, _, text = str(override.input_line).partition("=")
        raise UserError(key, text, problem=f"no space to search: {error}") from error
