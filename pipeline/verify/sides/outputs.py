"""Outputs of a model as named leaves: arrays, tuples, dictionaries, dataclasses."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

LOSS = "the loss"  # path of the user's own loss among the outputs


def leaves(
    output: object, is_array: Callable[[object], bool], path: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield the arrays of an output with their paths, such as `logits` or `0.hidden`.

    What is neither an array nor made of such, like a cache of keys and values, is left out. The path of
    an output that is a single array is `output`.
    """
    prefix = f"{path}." if path else ""
    if is_array(output):
        yield path or "output", output
    elif isinstance(output, Mapping):  # before dataclasses: Hugging Face's outputs are both
        for key, value in output.items():
            yield from leaves(value, is_array, f"{prefix}{key}")
    elif is_dataclass(output) and not isinstance(output, type):
        for item in fields(output):
            yield from leaves(getattr(output, item.name), is_array, f"{prefix}{item.name}")
    elif isinstance(output, list | tuple):
        names = getattr(output, "_fields", range(len(output)))
        for name, value in zip(names, output, strict=True):
            yield from leaves(value, is_array, f"{prefix}{name}")
