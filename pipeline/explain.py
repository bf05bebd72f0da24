"""Hydra's and OmegaConf's errors in one form: key, value, what is allowed, what to do."""

import re
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.errors import (
    ConfigCompositionException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from pipeline.config import SCHEMAS
from pipeline.errors import BadArgument, UserError
from pipeline.keys import every_key, groups, in_words, options_of
from pipeline.spelling import did_you_mean, nearest, unknown_key

SEE_MORE = "HYDRA_FULL_ERROR=1 shows the traceback; python run.py --help shows every key."


def explain(error: BaseException) -> str:
    """One message for a person, without a traceback."""
    return f"error: {in_our_words(error)}\n{SEE_MORE}"


def in_our_words(error: BaseException) -> UserError | str:
    """The error as a `UserError`; what no function here knows, in its own words."""
    if isinstance(error, UserError):
        return error
    for kind, told in TOLD:
        if isinstance(error, kind) and (ours := told(error)):
            return ours
    return str(error).strip() or type(error).__name__


# --- what Hydra composes from ---------------------------------------------------------------------


def unknown_option(error: MissingConfigException) -> UserError:
    """No such option in a group, or no such file for --config-name."""
    group, _, option = error.missing_cfg_file.rpartition("/")
    if not group:
        return UserError("--config-name", option, "a file of the config folder", "Leave it out.")
    choices = list(error.options or options_of(group))
    close = nearest(option, choices)
    return UserError(
        group,
        option,
        "one of " + ", ".join(choices),
        f"Did you mean {group}={close}?" if close else "",
    )


def not_an_override(error: OverrideParseException) -> UserError:
    """An argument that Hydra's grammar does not read."""
    text = error.override
    if text.count("'") % 2 or text.count('"') % 2:
        hint = "A quote has no partner. Quote the whole argument for the shell: \"name='a b'\"."
    elif "=" not in text:
        key = nearest(text, [key.path for key in every_key()] + groups())
        hint = f"Did you mean {key}=VALUE?" if key else ""
    elif "==" in text:
        hint = f"Write one =: {text.replace('==', '=')}"
    else:
        key, _, value = text.partition("=")
        hint = f"Quote a value with signs or spaces in it: \"{key}='{value}'\"."
    return BadArgument(text, "of the form KEY=VALUE or GROUP=OPTION", hint)


def bad_override(error: ConfigCompositionException) -> UserError | None:
    """An override that was read, and does not fit the config."""
    cause = error.__cause__ or error.__context__
    text = str(error)
    for pattern, told in REFUSALS:
        if match := re.search(pattern, text):
            return told(*match.groups())
    if not isinstance(cause, OmegaConfBaseException):
        return None
    if isinstance(cause, ConfigAttributeError | ConfigKeyError) and "Could not override" in text:
        appended = re.search(r"use \+[^=\s]*=(.*)", text)
        parent = cause.parent_node
        return unknown_key(cause.full_key, appended[1] if appended else MISSING, parent)
    return wrong_type(cause, text)


def appended(key: str) -> UserError:
    """`+` before a key that is there already."""
    return BadArgument(f"+{key}", "without the +, since the key exists", f"Write {key}=VALUE.")


def chosen_twice(group: str) -> UserError:
    """`+` before a group that has its option already."""
    return BadArgument(f"+{group}", "without the +: it has an option", f"Write {group}=OPTION.")


def packaged(group: str, package: str) -> UserError:
    """A group with a package that it does not have."""
    return BadArgument(f"{group}@{package}", "a group without @", f"Write {group}=OPTION.")


def nothing_to_delete(key: str) -> UserError:
    """`~` before what is not there."""
    return BadArgument(f"~{key}", "a group or key of the config", did_you_mean(key, "~{}"))


def several(key: str, value: str) -> UserError:
    """A list of values without -m."""
    return UserError(
        key, value, "one value", f"Add -m to run one job for each; a list is {key}=[{value}]."
    )


def unchosen(group: str) -> UserError:
    """A group that needs an option and was given `???`."""
    return UserError(group, "???", "one of " + ", ".join(options_of(group)), "")


def added_up(chosen: str, first: str) -> UserError | None:
    """Several options of a group that takes one."""
    for group, schemas in SCHEMAS.items():
        names = {schema.__name__: name for name, schema in schemas.items()}
        if chosen in names and first in names:
            value = f"[{names[first]},{names[chosen]}]"
            hint = f"Choose one: {group}={names[chosen]}; to run both: -m {group}={value[1:-1]}"
            return UserError(group, value, "one option", hint)
    return None


REFUSALS: list[tuple[str, Callable[..., UserError | None]]] = [
    (r"An item is already at '([^']+)'", appended),
    (r"Multiple values for (\S+)\. ", chosen_twice),
    (r"Could not delete.* '([^']+)' does not exist", nothing_to_delete),
    (r"Could not delete\. '([^']+)", nothing_to_delete),
    (r"Could not override '([^'@]+)@([^']+)'", packaged),
    (r"Ambiguous value for argument '([^'=]+)=([^']*)'", several),
    (r"You must specify '([^']+)'", unchosen),
    (r"(\w+) is not a subclass of (\w+)\. value: \{", added_up),
]


# --- keys and values ------------------------------------------------------------------------------


def wrong_type(cause: OmegaConfBaseException, text: str = "") -> UserError | None:
    """A value of another type than its key's."""
    key = re.sub(r"\[\d+\].*$", "", cause.full_key or "")
    node = cause.parent_node
    if isinstance(node, ListConfig):
        node = node._get_parent()
    schema = OmegaConf.get_type(node) if isinstance(node, DictConfig) else None
    name = key.rpartition(".")[2]
    given = re.search(r"Error merging override (\S+?)(?:=(.*))?$", text, re.DOTALL)
    if not is_dataclass(schema) or name not in {entry.name for entry in fields(schema)}:
        return None
    if given and given[1].startswith("~"):
        return BadArgument(given[1], "a group: a key cannot be left out", f"Set {key}=VALUE.")
    value = given[2] if given else cause.value
    if key in groups() and not isinstance(value, dict):
        return UserError(key, value, "one of " + ", ".join(options_of(key)))
    return UserError(key, value, in_words(schema, name))


def unresolved(error: InterpolationResolutionError) -> UserError:
    """An interpolation `${…}` that leads nowhere."""
    key = error.full_key or str(error.key)
    node = error.parent_node
    raw = OmegaConf.to_container(node, resolve=False).get(error.key) if node is not None else "${…}"
    reason = str(error).splitlines()[0].partition("interpolation: ")
    return UserError(
        key,
        raw,
        f"a value or a ${{…}} that can be worked out: {(reason[2] or reason[0]).strip(chr(34))}",
        "Interpolations name a key, like ${seed}, or the environment, like ${oc.env:HOME}.",
    )


def missing_value(error: MissingMandatoryValue) -> UserError:
    """A key or group that has no value."""
    named = re.search(r"missing mandatory value: (\S+)", str(error), re.IGNORECASE)
    key = error.full_key or (named[1] if named else "config")
    if key in groups():
        return unchosen(key)
    return UserError(key, "???", "given a value", f"Set {key}=VALUE.")


def malformed(error: OmegaConfBaseException) -> UserError | None:
    """What else OmegaConf says of one key."""
    if not error.full_key:
        return None
    reason = str(error).splitlines()[0]
    return UserError(error.full_key, error.value, f"a valid value ({reason})")


# --- the output folder ----------------------------------------------------------------------------


def unwritable(error: OSError) -> UserError:
    """Hydra could not make or fill the folder of the run."""
    return UserError(
        "hydra.run.dir",
        error.filename and Path(error.filename),
        f"a folder that can be written ({error.strerror})",
        "Free some space, or choose another with hydra.run.dir=FOLDER.",
    )


# The first that fits tells it.
TOLD: Sequence[tuple[type[BaseException], Callable[[Any], UserError | None]]] = (
    (MissingConfigException, unknown_option),
    (OverrideParseException, not_an_override),
    (ConfigCompositionException, bad_override),
    (InterpolationResolutionError, unresolved),
    (MissingMandatoryValue, missing_value),
    (ValidationError, wrong_type),
    (OmegaConfBaseException, malformed),
    (OSError, unwritable),
)


def unfit_choice(override: Override) -> UserError:
    """A group that was given what is no name, such as null or a number."""
    group, value = override.key_or_group, override.value()
    hint = "" if group not in ("experiment", "debug") else f"Leave {group} out."
    return UserError(
        group, "null" if value is None else value, "one of " + ", ".join(options_of(group)), hint
    )
