"""Errors of Hydra and OmegaConf in one form: key, value, what is allowed, what to do."""

import re
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from traceback import walk_tb
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from omegaconf import MISSING, Container, DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)
from yaml import YAMLError

from pipeline.commands import command
from pipeline.config.checks.keys import (
    config_groups,
    describe_value,
    every_key,
    options_of,
    raw_value,
)
from pipeline.config.checks.preset_errors import error_in_preset, no_yaml
from pipeline.config.checks.suggestions import did_you_mean, nearest, unknown_key
from pipeline.errors import BadArgument, UserError


def explain(error: BaseException) -> str:
    """Return the message of an error, without a traceback."""
    see_more = f"HYDRA_FULL_ERROR=1 shows the traceback; {command('run')} --help shows every key."
    return f"error: {to_user_error(error)}\n{see_more}"


def to_user_error(error: BaseException) -> UserError | str:
    """Convert an error to a `UserError`; return its own message if no function here knows it."""
    if isinstance(error, UserError):
        return error
    for kind, translate in TRANSLATIONS:
        if isinstance(error, kind) and (ours := translate(error)):
            return ours
    return str(error).strip() or type(error).__name__


# --- what Hydra composes from ---------------------------------------------------------------------


def unknown_option(error: MissingConfigException) -> UserError:
    """Make the error for an unknown option of a group, or a missing file or folder of configs."""
    if error.missing_cfg_file is None:  # Hydra names the folder only in its message
        folder = re.search(r"config directory '([^']*)'", str(error))
        hint = "Leave --config-path out; --config-dir=FOLDER adds options of your own."
        problem = "this folder of configs does not exist"
        return BadArgument(folder[1] if folder else "--config-path", problem=problem, hint=hint)
    file = error.missing_cfg_file
    above = [known for known in config_groups() if file.startswith(f"{known}/")]
    group = max(above, key=len, default=file.rpartition("/")[0])
    option = file[len(group) :].removeprefix("/")
    if not group:
        return UserError("--config-name", option, "a file of the config folder", "Leave it out.")
    choices = list(error.options or options_of(group))
    close = nearest(option, choices)
    hint = f"Did you mean {group}={close}?" if close else ""
    return UserError(group, option, "one of " + ", ".join(choices), hint)


def not_an_override(error: OverrideParseException) -> UserError:
    """Make the error for an argument that is not of Hydra's grammar."""
    text = error.override
    if text.count("'") % 2 or text.count('"') % 2:
        hint = "A quote has no partner. Quote the whole argument for the shell: \"name='a b'\"."
    elif "=" not in text:
        key = nearest(text, [key.path for key in every_key()] + config_groups())
        hint = f"Did you mean {key}=VALUE?" if key else ""
    elif "==" in text:
        hint = f"Write one =: {text.replace('==', '=')}"
    else:
        key, _, value = text.partition("=")
        hint = f"Quote a value with signs or spaces in it: \"{key}='{value}'\"."
    return BadArgument(text, "of the form KEY=VALUE or GROUP=OPTION", hint)


# Misplaced arguments, by Hydra's message: how they were typed, the problem, and what to assign.
MISPLACED = {
    r"An item is already at '([^']+)'": ("+{}", "this key exists already", "VALUE"),
    r"Multiple values for (\S+)\. ": ("+{}", "this group has an option already", "OPTION"),
    r"Could not override '([^'@]+)@([^']+)'": (
        "{}@{}",
        "the package of a group is fixed",
        "OPTION",
    ),
}


def bad_override(error: ConfigCompositionException) -> UserError | None:
    """Make the error for a valid override that does not fit the config."""
    cause = error.__cause__ or error.__context__
    text = str(error)
    for pattern, (typed, problem, value) in MISPLACED.items():
        if match := re.search(pattern, text):
            argument = typed.format(*match.groups())
            return BadArgument(argument, problem=problem, hint=f"Write {match[1]}={value}.")
    for pattern in (r"Could not delete.* '([^']+)' does not exist", r"Could not delete\. '([^']+)"):
        if match := re.search(pattern, text):
            return nothing_to_delete(match[1])
    if match := re.search(r"Ambiguous value for argument '([^'=]+)=([^']*)'", text):
        key, value = match.groups()
        hint = f"Add -m to run one job for each; a list is {key}=[{value}]."
        return UserError(key, value, "one value", hint)
    if match := re.search(r"You must specify '([^']+)'", text):
        return not_an_option(match[1])
    if not isinstance(cause, OmegaConfBaseException):
        return None
    of_logger = re.search(r"override (logger\.\w+\.\S*?)=(.*)", text)
    if of_logger and str(cause).endswith("is None"):  # from Hydra 1.4 on
        return logger_is_off(*of_logger.groups())
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and "Could not override" in text:
        given = re.search(r"use \+[^=\s]*=(.*)", text)
        value = given[1] if given else MISSING
        typed = re.search(r"Could not override '([^']+)'", text)
        key = str(cause.full_key)
        # Of an unknown group the whole key tells more: `trainer.devices`.
        return unknown_key(typed[1] if typed and "." not in key else key, value, cause.parent_node)
    return error_in_preset(text, cause) or wrong_type(cause, text)


def nothing_to_delete(key: str) -> UserError:
    """Make the error for `~` before a key, or before a name that the config does not have."""
    if key in {known.path for known in every_key()}:
        return key_not_deletable(f"~{key}")
    return BadArgument(f"~{key}", "a group or key of the config", did_you_mean(key, "~{}"))


def not_an_option(group: str, value: object = "???", hint: str = "") -> UserError:
    """Make the error for a group whose value is none of its options."""
    return UserError(group, value, "one of " + ", ".join(options_of(group)), hint)


# --- keys and values ------------------------------------------------------------------------------


def wrong_type(cause: OmegaConfBaseException, text: str = "") -> UserError | None:
    """Make the error for a value of another type than its key's."""
    key, node = cause.full_key or "", cause.parent_node
    while isinstance(node, Container) and not is_dataclass(OmegaConf.get_type(node)):
        key, node = node._get_full_key(None), node._get_parent()  # leave a list or a map
    schema = OmegaConf.get_type(node) if isinstance(node, DictConfig) else None
    name = key.rpartition(".")[2]
    given = re.search(r"Error merging override (\S+?)(?:=(.*))?$", text, re.DOTALL)
    if not is_dataclass(schema) or name not in {entry.name for entry in fields(schema)}:
        return None
    if given and given[1].startswith("~"):
        return key_not_deletable(given[1])
    value = given[2] if given else cause.value
    if key in config_groups() and not isinstance(value, dict):
        return not_an_option(key, value)
    return UserError(key, value, describe_value(schema, name))


def key_not_deletable(argument: str) -> UserError:
    """Make the error for `~` before a key."""
    hint = f"Set {argument[1:]}=VALUE."
    return BadArgument(argument, problem="only a group can be left out, no key", hint=hint)


def logger_not_chosen(error: AssertionError) -> UserError | None:
    """Make the error for a failed assertion of OmegaConf: the logger of a key is not chosen.

    The assertion names no key, so it is read from the stack frames. Hydra 1.4 raises an error with the key.
    """
    for frame, _ in walk_tb(error.__traceback__):
        override = frame.f_locals.get("override")
        if isinstance(override, Override) and override.key_or_group.startswith("logger."):
            return logger_is_off(override.key_or_group, override.get_value_element_as_str())
    return None


def logger_is_off(key: str, value: str) -> UserError:
    """Make the error for a key of a logger that is not chosen."""
    name = key.split(".")[1]
    hint = f"Add logger={name}, or several as logger=[csv,tensorboard]."
    return UserError(key, value, problem=f"the logger {name} is not chosen", hint=hint)


def unresolved(error: InterpolationResolutionError) -> UserError:
    """Make the error for an interpolation `${…}` without a target."""
    key = error.full_key or str(error.key)
    raw = raw_value(error.parent_node, error.key) or "${…}"
    reason = str(error).splitlines()[0].split("interpolation: ", 1)[-1].strip('"')
    hint = "Interpolations name a key, like ${seed}, or the environment, like ${oc.env:HOME}."
    return UserError(key, raw, problem=f"it cannot be resolved: {reason}", hint=hint)


def missing_value(error: MissingMandatoryValue) -> UserError:
    """Make the error for a key or group without a value."""
    named = re.search(r"missing mandatory value: (\S+)", str(error), re.IGNORECASE)
    key = error.full_key or (named[1] if named else "config")
    if key in config_groups():
        return not_an_option(key)
    return UserError(key, "???", problem="it has no value", hint=f"Set {key}=VALUE.")


def malformed(error: OmegaConfBaseException) -> UserError | None:
    """Make the error for any other message of OmegaConf about one key."""
    if not error.full_key:
        return None
    reason = str(error).splitlines()[0]
    return UserError(error.full_key, error.value, problem=f"it is not valid: {reason}")


def unwritable(error: OSError) -> UserError:
    """Make the error for a run folder that Hydra could not make or fill."""
    folder = error.filename and Path(error.filename)
    problem = f"this folder cannot be written: {error.strerror}"
    hint = "Free some space, or choose another with hydra.run.dir=FOLDER."
    return UserError("hydra.run.dir", folder, problem=problem, hint=hint)


# The first that returns an error wins.
TRANSLATIONS: Sequence[tuple[type[BaseException], Callable[[Any], UserError | None]]] = (
    (MissingConfigException, unknown_option),
    (OverrideParseException, not_an_override),
    (ConfigCompositionException, bad_override),
    (InterpolationResolutionError, unresolved),
    (MissingMandatoryValue, missing_value),
    (ValidationError, wrong_type),
    (OmegaConfBaseException, malformed),
    (YAMLError, no_yaml),
    (AssertionError, logger_not_chosen),
    (OSError, unwritable),
)
