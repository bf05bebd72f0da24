"""All configuration keys with their help and type in plain words, read from the dataclasses."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from omegaconf import Container, OmegaConf

from pipeline.config.experiment import SCHEMAS, Config
from pipeline.config.fields import metadata_of
from pipeline.config.overlay import config_folders
from pipeline.shipped import CONF

WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


@dataclass(frozen=True)
class Key:
    """One configuration key."""

    path: str  # dotted, as it is typed
    help: str
    option: str = ""  # group option that has it, like `optimizer=sgd`; empty if every run has it


@cache
def every_key() -> tuple[Key, ...]:
    """Return the keys of every run and those of every group option, in the order of the dataclasses."""
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
    """Yield the keys below a dataclass."""
    hints = get_type_hints(schema)
    for entry in fields(schema):
        path = f"{prefix}.{entry.name}" if prefix else entry.name
        inner = next((kind for kind in alternatives(hints[entry.name]) if is_dataclass(kind)), None)
        if inner is None:
            yield Key(path, metadata_of(schema, entry.name).get("help", ""))
        elif entry.name not in SCHEMAS:
            yield from keys_of(inner, path)


def type_of(node: object) -> type:
    """Return the dataclass of a config node; `dict` for a map, `list` for a list."""
    return OmegaConf.get_type(node) or type(None)


def raw_value(node: Container | None, key: Any) -> object:
    """Return a value in a config without resolving its interpolation."""
    plain = OmegaConf.to_container(node, resolve=False) if node is not None else None
    return plain.get(key) if isinstance(plain, dict) else None


def config_groups() -> list[str]:
    """Return the config groups, by their folders, without those of Hydra itself."""
    return sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra")


def options_of(group: str, schema: str | None = None) -> list[str]:
    """Return the options of a config group; with `schema` only those of this dataclass."""
    files = {
        file.stem: file for folder in config_folders() for file in (folder / group).glob("*.yaml")
    }
    base = f"/schema/{group}/{schema}@"
    return [name for name in sorted(files) if schema is None or base in files[name].read_text()]


def describe_value(schema: type, name: str) -> str:
    """Describe the values of a field, as a phrase after "must be"."""
    kinds = alternatives(get_type_hints(schema)[name])
    if any(get_origin(kind) is list for kind in kinds):
        for allowed in metadata_of(schema, name).get("allowed", ()):
            default = next(one for one in fields(schema) if one.name == name).default_factory
            example = ",".join(map(str, default())) if callable(default) else ""
            return f"{allowed}, like [{example}]" if example else allowed
    return " or ".join(map(describe_type, sorted(kinds, key=lambda kind: kind is type(None))))


def describe_type(kind: Any) -> str:
    """Describe a type in plain words."""
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
    """Return the types of a union, or the one type."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
