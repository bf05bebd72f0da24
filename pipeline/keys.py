"""Every configuration key, its help and its type in plain words, read off the dataclasses."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from pipeline.config import SCHEMAS, Config

CONF = Path(__file__).resolve().parent.parent / "conf"

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


@dataclass(frozen=True)
class Key:
    """One configuration key.

    Args:
        path: dotted, as it is typed.
        help: its line of `--help`.
        option: the group option that has it, like `optimizer=sgd`; empty where every run has it.
    """

    path: str
    help: str
    option: str = ""


@cache
def every_key() -> tuple[Key, ...]:
    """The keys of every run and those of every group option, in the order of the dataclasses."""
    keys = []
    for entry in fields(Config):
        if entry.name in SCHEMAS:
            for name, schema in SCHEMAS[entry.name].items():
                option = f"{entry.name}={' or '.join(options_of(entry.name, name))}"
                keys += [Key(key.path, key.help, option) for key in keys_of(schema, entry.name)]
        else:
            keys += [key for key in keys_of(Config) if key.path.partition(".")[0] == entry.name]
    return tuple(keys)


def keys_of(schema: type, prefix: str = "") -> Iterator[Key]:
    """The keys below a dataclass."""
    hints = get_type_hints(schema)
    for entry in fields(schema):
        path = f"{prefix}.{entry.name}" if prefix else entry.name
        inner = next((kind for kind in alternatives(hints[entry.name]) if is_dataclass(kind)), None)
        if inner is None:
            yield Key(path, entry.metadata.get("help", ""))
        elif entry.name not in SCHEMAS:
            yield from keys_of(inner, path)


def groups() -> list[str]:
    """The config groups, by their folders; those of Hydra itself are left out."""
    return sorted(
        found.name for found in CONF.iterdir() if found.is_dir() and found.name != "hydra"
    )


def options_of(group: str, schema: str | None = None) -> list[str]:
    """The options of a config group; with `schema` only those that are of this dataclass."""
    files = sorted((CONF / group).glob("*.yaml"))
    return [
        file.stem
        for file in files
        if schema is None or f"/schema/{group}/{schema}@" in file.read_text()
    ]


def in_words(schema: type, name: str) -> str:
    """What a field takes, as a phrase after "must be"."""
    kinds = alternatives(get_type_hints(schema)[name])
    return " or ".join(words(kind) for kind in sorted(kinds, key=lambda kind: kind is type(None)))


def words(kind: Any) -> str:
    """A type in plain words."""
    if kind is type(None):
        return "null"
    if get_origin(kind) is list:
        example = {int: "[1,2]", float: "[0.1,0.2]"}.get(get_args(kind)[0], "[a,b]")
        return f"a list, like {example}"
    if get_origin(kind) is dict:
        return "a map, like {fc.*:0.1}"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "one of " + ", ".join(kind.__members__)
    if is_dataclass(kind):
        return "set key by key: " + ", ".join(entry.name for entry in fields(kind))
    return WORDS.get(kind, "a group of keys")


def alternatives(hint: Any) -> tuple[Any, ...]:
    """The types of a union, or the one type."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
