"""A config that `run.json` stores: read as typed nodes, and completed with the keys added since."""

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from functools import cache
from typing import cast

from omegaconf import MISSING as REQUIRED
from omegaconf import DictConfig, OmegaConf

from pipeline.config.experiment import SCHEMAS, Config, plain

# Groups of every stored config; `task` has a default.
GROUPS = [field.name for field in fields(Config) if field.default == REQUIRED]


def structured(saved: Mapping[str, Mapping[str, object]]) -> DictConfig:
    """Return a stored config as typed nodes, validated by its schemas."""
    config = OmegaConf.structured(Config)
    for group in SCHEMAS.keys() & saved.keys():
        config[group] = OmegaConf.structured(schema_of(group, saved[group]))
    config.merge_with(saved)
    return config


def schema_of(group: str, saved: Mapping[str, object]) -> type:
    """Return the schema of a stored option: that of its name, or the smallest that has its keys.

    Data sets of images and of libraries have names of their own, so their schemas come first.
    """
    schemas = SCHEMAS[group]
    if known := schemas.get(str(saved.get("name"))):
        return known
    holding = [one for one in schemas.values() if saved.keys() <= defaults_of(one).keys()]

    def order(schema: type) -> tuple[bool, int]:
        default = defaults_of(schema)
        return default["name"] in schemas, len(default)

    return min(holding, key=order, default=schemas.get("images", Config))


def completed(saved: Mapping[str, object]) -> dict[str, object]:
    """Return a stored config with all keys of this version: those added since stand at their defaults.

    So a new key must by default mean what was done before it. A default that changes is no such key: the
    stored config has its old value.
    """
    today = dict(defaults_of(Config))
    for field in fields(Config):
        stored = saved.get(field.name)
        if isinstance(stored, dict):
            is_option = field.name in SCHEMAS
            schema = schema_of(field.name, stored) if is_option else field.type
            today[field.name] = defaults_of(cast("type", schema))
    return _merged(today, saved)


@cache  # a sweep asks for each of its jobs
def defaults_of(schema: type) -> Mapping[str, object]:
    """Return the defaults of a dataclass as plain containers."""
    return {field.name: plain(_default_of(field)) for field in fields(schema)}


def _default_of(field: Field[object]) -> object:
    return field.default if field.default_factory is MISSING else field.default_factory()


def _merged(defaults: Mapping[str, object], saved: Mapping[str, object]) -> dict[str, object]:
    merged = dict(defaults)
    for key, value in saved.items():
        default = defaults.get(key)
        nested = isinstance(value, dict) and isinstance(default, dict)
        merged[key] = _merged(default, value) if nested else value
    return merged
