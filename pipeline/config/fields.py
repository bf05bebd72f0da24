"""What a configuration field is made of: a default, a line of help, and what is allowed."""

from dataclasses import field
from typing import Any

from pipeline.errors import UserError


def option(default: Any, help: str) -> Any:
    """A configuration field with its default and the line that `--help` shows."""
    metadata = {"help": help}
    if isinstance(default, list | dict):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def require(condition: bool, key: str, value: object, allowed: str, hint: str = "") -> None:
    """Raise a `UserError` about `key` unless `condition` holds."""
    if not condition:
        raise UserError(key, value, allowed, hint)
