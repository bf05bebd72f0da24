"""What can be refused before anything heavy is loaded or any job of a sweep is started."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from pipeline.config import SCHEMAS, Config, typed
from pipeline.errors import BadArgument, UserError
from pipeline.explain import unfit_choice
from pipeline.keys import groups
from pipeline.spelling import nearest, unknown_key

BASIC_SWEEPER = f"{BasicSweeper.__module__}.{BasicSweeper.__qualname__}"


def check_arguments(arguments: Sequence[str]) -> None:
    """Refuse flags and overrides that Hydra would answer with a usage text or a bare exception.

    Raises:
        UserError: a flag is unknown, or a group is given what is no name of an option.
        HydraException: an override is not of Hydra's grammar.
    """
    parser = get_args_parser()
    flags = [flag for action in parser._actions for flag in action.option_strings]

    def refuse(message: str) -> None:
        unknown = message.startswith("unrecognized arguments: ")
        flag = message.split(": ")[1].split(" ")[0] if unknown else ""
        close = nearest(flag, flags) if flag else None
        hint = f"Did you mean {close}?" if close else "See --hydra-help."
        raise BadArgument(flag or message, "a flag of Hydra", hint)

    parser.error = refuse
    overrides = parser.parse_args(list(arguments)).overrides
    if any(flag in arguments for flag in ("-sc", "--shell-completion", "--shell_completion")):
        return
    for override in OverridesParser.create().parse_overrides(overrides):
        if not override.key_or_group:
            raise BadArgument(override.input_line, "of the form KEY=VALUE")
        if override.key_or_group not in groups() or override.is_delete():
            continue
        if not override.is_sweep_override() and not isinstance(override.value(), str | list):
            raise unfit_choice(override)


def checked(composed: DictConfig) -> Config:
    """The composed config as typed objects, with no key that nothing reads.

    `+key=value` adds to a config what its schema does not have: a slip would go unnoticed.

    Raises:
        UserError: a key is unknown, or a value is out of range.
    """
    check_keys(composed)
    for group, schemas in SCHEMAS.items():
        node = composed.get(group)
        schema = schemas.get(node.name, schemas.get("images")) if node else None
        if node and OmegaConf.get_type(node) is not schema:
            raise UserError(
                f"{group}.name",
                node.name,
                "left as the group sets it",
                f"Choose with {group}={node.name}.",
            )
    return typed(composed)


def check_keys(node: DictConfig, path: str = "") -> None:
    """Refuse keys that the dataclasses do not have."""
    schema = OmegaConf.get_type(node)
    if schema is dict:
        return  # a dictionary of the user's, by names of parameters
    known = {entry.name for entry in fields(schema)}
    for key in node:
        dotted = f"{path}{key}"
        if key not in known:
            value = OmegaConf.to_container(node, resolve=False)[key]
            raise unknown_key(dotted, value, node)
        if not OmegaConf.is_missing(node, key) and OmegaConf.is_dict(node[key]):
            check_keys(node[key], f"{dotted}.")


class BadSweep(SystemExit):
    """No job of the sweep can run. (Of Hydra's callbacks, only this kind of exception gets out.)"""

    def __init__(self, error: Exception) -> None:
        self.error = error
        super().__init__(1)


class Precheck(Callback):
    """Hydra's callback by which the jobs of a sweep are checked before the first one starts."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Have our sweeper take the place of Hydra's basic one, which is a plugin of Hydra's own.

        Raises:
            BadSweep: the launcher is not installed.
        """
        from pipeline.sweeper import Sweeper  # which checks by what is above

        plugins = Plugins.instance().class_name_to_class
        plugins[BASIC_SWEEPER] = Sweeper
        if config.hydra.launcher._target_ not in plugins:
            chosen = config.hydra.runtime.choices["hydra/launcher"]
            hint = f"Install it: pip install -e '.[{chosen}]'"
            raise BadSweep(UserError("hydra/launcher", chosen, "installed", hint))


def check_job(composed: DictConfig) -> Config:
    """The typed config of one job, Hydra's own part taken out of it.

    Raises:
        UserError: it is refused.
    """
    OmegaConf.set_struct(composed, False)
    composed.pop("hydra", None)
    return checked(composed)
