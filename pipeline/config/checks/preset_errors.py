"""Errors in a file of the config folders, which the user may have written."""

import re
from pathlib import Path

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    OmegaConfBaseException,
    ValidationError,
)
from yaml import YAMLError, safe_load

from pipeline.config.checks.keys import config_groups
from pipeline.config.checks.suggestions import unknown_key
from pipeline.config.experiment import SCHEMAS
from pipeline.config.overlay import config_folders
from pipeline.errors import BadArgument, UserError

COMPOSING = ("experiment", "debug")  # groups whose presets choose the options of others


def error_in_preset(text: str, cause: OmegaConfBaseException) -> UserError | None:
    """Make the error for keys that a file has and the config has not; None for any other.

    `text` is Hydra's message about it: `In 'model/mine': …`.
    """
    found = re.match(r"In '([^']+)': ", text)
    if found is None:
        return None
    file, group = file_of(found[1]), found[1].partition("/")[0]
    if isinstance(cause, ValidationError) and str(cause).startswith("Invalid type assigned: list"):
        return BadArgument(file, problem="it holds a list", hint="Write keys: KEY: VALUE.")
    if not isinstance(cause, ConfigAttributeError | ConfigKeyError):
        return option_as_key(file) if group in COMPOSING else None
    node = cause.parent_node
    schema = OmegaConf.get_type(node) if isinstance(node, DictConfig) else None
    if group in SCHEMAS and schema not in SCHEMAS[group].values():
        hint = f"Begin it with the one that it changes: defaults: [{next(iter(SCHEMAS[group]))}, _self_]"
        return BadArgument(file, problem=f"it is based on no option of {group}", hint=hint)
    error = unknown_key(str(cause.full_key), MISSING, node)
    parts = error.parts | {"hint": f"{error.hint} It is in {file}.".lstrip()}
    return UserError(**parts)


def option_as_key(file: str) -> UserError | None:
    """Make the error for a preset that chooses the option of a group as a key, as the command line does."""
    keys = safe_load(Path(file).read_text()) if Path(file).is_file() else None
    if not isinstance(keys, dict):
        return None
    for group in config_groups():
        if isinstance(chosen := keys.get(group), str | list):
            option = f"[{', '.join(map(str, chosen))}]" if isinstance(chosen, list) else chosen
            hint = f"Put `- override /{group}: {option}` into its defaults."
            return BadArgument(file, problem=f"it sets the group {group} as a key", hint=hint)
    return None


def file_of(option: str) -> str:
    """Return the file of an option such as `model/mine`, from the working folder if it lies there."""
    files = [folder / f"{option}.yaml" for folder in reversed(config_folders())]
    return shown(next(filter(Path.is_file, files), files[-1]))


def shown(file: Path) -> str:
    """Return a path from the working folder, if it lies there."""
    here = Path.cwd()
    return str(file.relative_to(here) if file.is_relative_to(here) else file)


def no_yaml(error: YAMLError) -> UserError | None:
    """Make the error for a file that YAML cannot read."""
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return None
    problem = f"it is no YAML: {getattr(error, 'problem', None) or 'unreadable'}"
    return BadArgument(f"{shown(Path(mark.name))}, line {mark.line + 1}", problem=problem)
