"""Checks of arguments and composed configs that need no framework."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, QuotedString, Sweep
from omegaconf import DictConfig, OmegaConf

from pipeline.child_command import quoted
from pipeline.config.checks.hydra_errors import not_an_option
from pipeline.config.checks.keys import config_groups, describe_value, raw_value, type_of
from pipeline.config.checks.suggestions import nearest, unknown_key
from pipeline.config.column_datasets import LibraryConfig
from pipeline.config.experiment import SCHEMAS, Config, typed
from pipeline.config.hydra_compat import get_args_parser
from pipeline.errors import BadArgument, UserError

PATHS = ("resume", "checkpoint", "model.weights")  # keys that name a run
COMBINABLE = ("logger", "experiment", "debug")  # groups that take several options at once


def check_arguments(arguments: Sequence[str]) -> None:
    """Refuse flags and overrides that Hydra would answer with a usage text or a bare exception.

    Raises:
        UserError: a flag is unknown, or the value of a group is no option name.
        HydraException: an override is not of Hydra's grammar.
    """
    parser = get_args_parser()
    flags = [flag for action in parser._actions for flag in action.option_strings]

    def refuse(message: str) -> NoReturn:
        unknown = message.startswith("unrecognized arguments: ")
        flag = message.split(": ")[1].split(" ")[0] if unknown else ""
        close = nearest(flag, flags) if flag else None
        hint = f"Did you mean {close}?" if close else "See --hydra-help."
        if not unknown:
            raise BadArgument("the command line", problem=message, hint=hint)
        raise BadArgument(flag, "a flag of Hydra", hint)

    parser.error = refuse
    overrides = parser.parse_intermixed_args(list(arguments)).overrides
    if any(flag in arguments for flag in ("-sc", "--shell-completion", "--shell_completion")):
        return
    for override in OverridesParser.create().parse_overrides(overrides):
        if not override.key_or_group:
            raise BadArgument(str(override.input_line), "of the form KEY=VALUE")
        if override.key_or_group in config_groups() and not override.is_delete():
            check_choice(override.key_or_group, override.value())


def quote_paths(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with those paths quoted that exist and have signs of Hydra's grammar in them.

    The folder of a job of a sweep has the overrides in its name: `resume=outputs/sweep/0_seed=1`.
    """
    found = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        is_path = key in PATHS and "=" in value and value[0] not in "'\"" and Path(value).exists()
        found.append(f"{key}={quoted(value)}" if is_path else argument)
    return found


def flags_first(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with Hydra's flags before the overrides, as its parser requires."""
    overrides = get_args_parser().parse_intermixed_args(list(arguments)).overrides
    flags = list(arguments)
    for override in reversed(overrides):
        del flags[len(flags) - 1 - flags[::-1].index(override)]
    return [*flags, *overrides]


def check_choice(group: str, value: object) -> None:
    """Refuse a choice that is no name, like null or a number, or several that cannot be combined."""
    for choice in value.list if isinstance(value, ChoiceSweep) else [value]:
        if not isinstance(choice, str | list | QuotedString | Sweep):
            hint = f"Leave {group} out." if group in ("experiment", "debug") else ""
            raise not_an_option(group, "null" if value is None else value, hint)
        if isinstance(choice, list) and len(choice) > 1 and group not in COMBINABLE:
            # Hydra would merge them, and the last would override most of the others.
            names = ",".join(map(str, choice))
            hint = f"Choose one: {group}={choice[-1]}; to run one job for each: -m {group}={names}"
            raise UserError(group, f"[{names}]", "one option", hint)


def validate_config(composed: DictConfig) -> Config:
    """Return the composed config as typed objects; refuse unknown keys and values out of range.

    `+key=value` adds keys that the schema does not have, so a typing error would go unnoticed.
    """
    check_keys(composed)
    for group, schemas in SCHEMAS.items():
        node = composed.get(group)
        schema = schemas.get(node.name, schemas.get("images")) if node else None
        kind = OmegaConf.get_type(node) if node else None
        if node and kind is not schema and kind is not LibraryConfig:  # whose names are a library's
            hint = f"Choose with {group}={node.name}."
            problem = f"it is set by the {group} group and cannot be changed on its own"
            raise UserError(f"{group}.name", node.name, problem=problem, hint=hint)
    return typed(composed)


def check_keys(node: DictConfig, path: str = "") -> None:
    """Refuse keys that the dataclasses do not have."""
    schema = type_of(node)
    if schema is dict:
        return  # a user's dictionary, keyed by parameter names
    known = {entry.name for entry in fields(schema)}
    for key in node:
        dotted = f"{path}{key}"
        if key not in known:
            raise unknown_key(dotted, raw_value(node, key), node)
        if OmegaConf.is_missing(node, key):
            continue
        if OmegaConf.is_dict(node[key]):
            check_keys(node[key], f"{dotted}.")
        elif OmegaConf.is_list(node[key]) and any(map(OmegaConf.is_config, node[key])):
            raise UserError(dotted, node[key], describe_value(schema, key))


def validate_job_config(composed: DictConfig) -> Config:
    """Return the typed config of one job, without Hydra's own part."""
    OmegaConf.set_struct(composed, False)
    composed.pop("hydra", None)
    return validate_config(composed)
