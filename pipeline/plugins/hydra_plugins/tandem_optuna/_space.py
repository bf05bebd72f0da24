"""What a search varies, and what it leaves alone."""

from collections.abc import Mapping, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra_plugins.hydra_optuna_sweeper._impl import create_optuna_distribution_from_override
from optuna.distributions import BaseDistribution

from pipeline.config.fields import require

Space = Mapping[str, BaseDistribution]


def searched(known: Space, given: Sequence[str]) -> tuple[Space, list[str]]:
    """What is searched, by its key, and the overrides that every trial has.

    Args:
        known: distributions that are no overrides.
        given: overrides; of two for one key the last counts, so the command line wins over a preset.

    Raises:
        UserError: nothing is searched.
    """
    space, fixed = dict(known), {}
    for override in OverridesParser.create().parse_overrides(list(given)):
        key = override.key_or_group
        space.pop(key, None)
        fixed.pop(key, None)
        if override.is_sweep_override():
            space[key] = create_optuna_distribution_from_override(override)
        else:
            fixed[key] = override.input_line
    require(
        bool(space),
        "hydra.sweeper.params",
        "null",
        "a space to search",
        "Choose a preset, such as hydra/sweeper=optuna_cnn, or give an interval: "
        "'optimizer.lr=tag(log,interval(1e-4,1e-1))'.",
    )
    return space, list(fixed.values())
