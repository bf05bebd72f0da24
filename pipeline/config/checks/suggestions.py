"""Suggestions for misspelled keys and options."""

import re
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from pipeline.config.checks.keys import config_groups, every_key, options_of
from pipeline.config.experiment import SCHEMAS, Config
from pipeline.errors import UserError


def nearest(word: str, choices: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the choice with the most similar spelling, compared as a whole or else by its last part."""
    choices = list(dict.fromkeys(choices))
    if close := get_close_matches(word, choices, 1, max(cutoff, 0.75)):
        return close[0]
    last = re.split(r"[./]", word)[-1]
    by_last = {choice.rpartition(".")[2]: choice for choice in reversed(choices)}
    close = get_close_matches(last, by_last, 1, cutoff)
    return by_last[close[0]] if close else None


def nearest_path(path: Path) -> str:
    """Suggest the file or folder with the name most similar to that of one that does not exist."""
    try:
        names = [other.name for other in path.absolute().parent.iterdir()]
    except OSError:
        return ""
    close = get_close_matches(path.name, names, 1, 0.5)
    return f"Did you mean {close[0]}? " if close else ""


def unknown_key(path: str, value: object, parent: DictConfig | None) -> UserError:
    """Make the error for a dotted key that its parent node, or the whole config, does not have."""
    schema = OmegaConf.get_type(parent) if parent is not None else Config
    group = path.partition(".")[0]
    if parent is None or schema is Config or not is_dataclass(schema):
        return UserError(path, value, "a key or a group of the config", did_you_mean(path))
    where = f"{group}={parent.get('name')}" if group in SCHEMAS else path.rpartition(".")[0]
    own = [entry.name for entry in fields(schema) if entry.name != "name" or group not in SCHEMAS]
    has = f"a key of {where}" + (f" ({', '.join(own)})" if own else ", which has none")
    prefix, _, name = path.rpartition(".")
    elsewhere = path in {key.path for key in every_key()}
    close = None if elsewhere else nearest(name, own)
    # The very name in a group that has it whatever its option: `train.compile` is `backend.compile`.
    same = [key.path for key in every_key() if key.path.rpartition(".")[2] == name]
    if not elsewhere and len({*same}) == 1 and not did_you_mean(same[0]).startswith("It is"):
        return UserError(path, value, has, did_you_mean(same[0]))
    hint = f"Did you mean {prefix}.{close}?" if close else did_you_mean(path)
    return UserError(path, value, has, hint)


def did_you_mean(path: str, spelling: str = "{}") -> str:
    """Suggest the key or group with the spelling most similar to `path`, and the option that has it."""
    close = nearest(path, [*config_groups(), *(key.path for key in every_key())])
    if close is None:
        return ""
    if close in config_groups():
        choices = ", ".join(options_of(close))
        return f"Did you mean the group {spelling.format(close)}? Its options: {choices}."
    options = [key.option for key in every_key() if key.path == close and key.option]
    everywhere = len(options) == len(SCHEMAS.get(close.partition(".")[0], ()))
    owners = "" if everywhere else " or ".join(options)
    if close == path and owners:
        return f"It is a key of {owners}."
    return f"Did you mean {spelling.format(close)}{owners and f', a key of {owners}'}?"
