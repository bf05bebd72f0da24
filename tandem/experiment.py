"""An experiment that has not run: its overrides, and the config that they compose."""

from dataclasses import dataclass
from html import escape

from hydra import compose as compose_with_hydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pipeline.cli.checks import checked_config
from pipeline.config.checks.hydra_errors import to_user_error
from pipeline.config.checks.validate import check_arguments
from pipeline.config.experiment import Config, register
from pipeline.config.hydra_compat import compose_from
from pipeline.errors import BadArgument, UserError
from pipeline.shipped import CONF


@dataclass(frozen=True)
class Experiment:
    """An experiment: the overrides of the command line, and the config with all values."""

    overrides: tuple[str, ...]
    config: Config

    def __str__(self) -> str:
        return " ".join(["tandem run", *self.overrides])

    def _repr_html_(self) -> str:
        return f"<code>{escape(str(self))}</code>"


def compose(*overrides: str) -> Experiment:
    """Compose an experiment from overrides, each as on the command line: `"model=vit"`.

    Raises:
        UserError: a key or value is unknown, out of range, or does not fit the others.
    """
    for override in overrides:
        if override.startswith("-"):
            hint = "For several experiments, compose each, and hand their runs to tandem.compare."
            raise BadArgument(override, problem="an experiment takes no flag", hint=hint)
    try:
        check_arguments(overrides)
        register()
        with compose_from(CONF):
            composed = compose_with_hydra("config", list(overrides))
            return Experiment(overrides, checked_config(composed, overrides)[0])
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        known = to_user_error(error)
        raise (known if isinstance(known, UserError) else error) from error
