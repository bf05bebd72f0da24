"""Configuration fields: a default, a line of help and the allowed values."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, dataclass_transform

from pipeline.errors import UserError

# Allowed values, by the phrase after "must be" in the message. "null or " may precede each of them.
RANGES: dict[str, Callable[[Any], bool]] = {
    "above 0": lambda value: value > 0,
    "0 or more": lambda value: value >= 0,
    "1 or more": lambda value: value >= 1,
    "at least 1": lambda value: value >= 1,
    "at least 2": lambda value: value >= 2,
    "at least 8": lambda value: value >= 8,
    "a whole number, 0 or more": lambda value: value >= 0,
    "a whole number, at least 1": lambda value: value >= 1,
    "auto or a whole number, at least 1": lambda value: (
        value == "auto" or (isinstance(value, int) and value >= 1)
    ),
    "in (0, 1)": lambda value: 0 < value < 1,
    "in (0, 1]": lambda value: 0 < value <= 1,
    "in [0, 1)": lambda value: 0 <= value < 1,
    "in [0, 1]": lambda value: 0 <= value <= 1,
    "in [1, 10]": lambda value: 1 <= value <= 10,
    "in 2 … 256": lambda value: 2 <= value <= 256,
    "in 1 … 100": lambda value: 1 <= value <= 100,
    "in 1 … 1024": lambda value: 1 <= value <= 1024,
    "in 1 … 1000000": lambda value: 1 <= value <= 10**6,
    "numbers above 0": lambda values: all(value > 0 for value in values),
    "a list of positive numbers": lambda values: all(value >= 1 for value in values),
    "a list of two numbers": lambda values: len(values) == 2,
    "[lowest, highest], in (0, 1]": lambda v: len(v) == 2 and 0 < v[0] <= v[1] <= 1,
    "[lowest, highest], above 0": lambda v: len(v) == 2 and 0 < v[0] <= v[1],
    "three numbers in [0, 10]": lambda v: len(v) == 3 and all(0 <= number <= 10 for number in v),
    "three numbers in [0, 1]": lambda v: len(v) == 3 and all(0 <= number <= 1 for number in v),
    "three numbers in (0, 1]": lambda v: len(v) == 3 and all(0 < number <= 1 for number in v),
    "two numbers in [0, 1)": lambda values: len(values) == 2 and all(0 <= v < 1 for v in values),
    "default, reduce-overhead or max-autotune": lambda value: (
        value in ("default", "reduce-overhead", "max-autotune")
    ),
    "[height, width, channels], each at least 1": lambda v: len(v) == 3 and min(v) >= 1,
}


def option(default: Any, help: str, *allowed: str) -> Any:
    """Make a configuration field with its default, its line of `--help` and its keys of `RANGES`."""
    assert all(one.removeprefix("null or ") in RANGES for one in allowed), allowed
    metadata: dict[str, Any] = {"help": help} | ({"allowed": allowed} if allowed else {})
    if isinstance(default, list | dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def metadata_of(schema: type, name: str) -> dict[str, Any]:
    """Return the help and ranges of a field; one that a subclass redefines keeps what it does not set."""
    found: dict[str, Any] = {}
    for base in reversed(schema.__mro__):
        if name in (defined := getattr(base, "__dataclass_fields__", {})):
            found |= defined[name].metadata
    return found


@dataclass_transform(kw_only_default=True)
@dataclass
class ConfigGroup:
    """Base of the config: makes each subclass a dataclass that refuses values out of range.

    `class TrainConfig(ConfigGroup, key="train")` gives the group's path, which subclasses inherit.
    """

    _key: ClassVar[str] = ""

    def __init_subclass__(cls, key: str = "") -> None:
        cls._key = key or cls._key
        dataclass(kw_only=True)(cls)

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            for allowed in metadata_of(type(self), entry.name).get("allowed", ()):
                optional = allowed.startswith("null or ")
                fits = RANGES[allowed.removeprefix("null or ")]
                holds = (optional and value is None) or fits(value)
                require(holds, f"{self._key}.{entry.name}".lstrip("."), value, allowed)


def require(condition: bool, key: str, value: object, allowed: str, hint: str = "") -> None:
    """Raise a `UserError` about `key` unless `condition` holds."""
    if not condition:
        raise UserError(key, value, allowed, hint)
