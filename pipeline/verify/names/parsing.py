"""Blocks and transforms, read from their text."""

import re
from collections.abc import Callable, Collection

from pipeline.verify.names.notation import (
    Block,
    Flip,
    Item,
    NotationError,
    Repeat,
    Reshape,
    Shape,
    Step,
    Take,
    Transform,
    Transpose,
)


def parse_block(text: str, names: Collection[str] = ()) -> Block:
    """Parse a block; `names` of known arrays settle where its name ends."""
    text = text.strip()
    fitting = [name for name in names if text.startswith(name) and _BLOCK.match(text, len(name))]
    if fitting:
        name = max(fitting, key=len)
    else:
        end = _END.search(text)
        name = text[: end.start()] if end else text
    found = _BLOCK.match(text, len(name))
    if not name or not found:
        raise NotationError(f"{text} is no array, nor name[…] nor name.reshape(…)[…]")
    shape = None if found["shape"] is None else _numbers(found["shape"])
    index = None if found["index"] is None else _index(found["index"])
    return Block(name, shape, index)


def parse_transform(text: str) -> Transform:
    """Parse a chain of steps; an empty one is the identity."""
    rest, steps = text.strip().removeprefix("."), []
    while rest:
        found = _STEP.match(rest)
        name = found["name"] if found else rest.partition("(")[0]
        if not found or name not in _STEPS:
            raise NotationError(f"{name} is none of the steps {', '.join(_STEPS)}")
        steps.append(_STEPS[name](found["arguments"]))
        rest = rest[found.end() :]
    return Transform(tuple(steps))


_END = re.compile(r"\[|\.reshape\(")  # what can follow a name
_BLOCK = re.compile(r"(\.reshape\((?P<shape>[^()]*)\))?(\[(?P<index>.*)\])?$")
_STEP = re.compile(r"(?P<name>\w+)\((?P<arguments>[^()]*)\)(\.(?=\w)|$)")


def _pair(text: str, keyword: str = "axis") -> tuple[str, int]:
    found = re.fullmatch(rf"\s*(.*?)\s*,\s*(?:{keyword}\s*=\s*)?(\d+)\s*", text, re.DOTALL)
    if not found:
        raise NotationError(f"({text}) has no axis")
    return found[1], int(found[2])


def _take(arguments: str) -> Take:
    order, axis = _pair(arguments)
    return Take(_numbers(order.removeprefix("[").removesuffix("]")), axis)


def _repeat(arguments: str) -> Repeat:
    count, axis = _pair(arguments)
    if not count.isdecimal():
        raise NotationError(f"({arguments}) has no number of times")
    return Repeat(int(count), axis)


_STEPS: dict[str, Callable[[str], Step]] = {
    "reshape": lambda arguments: Reshape(_numbers(arguments)),
    "transpose": lambda arguments: Transpose(_numbers(arguments)),
    "flip": lambda arguments: Flip(_numbers(arguments)),
    "take": _take,
    "repeat": _repeat,
}


def _numbers(text: str) -> Shape:
    parts = [part.strip() for part in text.split(",")]
    if parts and not parts[-1]:  # a comma at the end, or nothing at all
        parts = parts[:-1]
    if not all(re.fullmatch(r"-?\d+", part) for part in parts):
        raise NotationError(f"({text}) is no list of whole numbers")
    return tuple(map(int, parts))


def _index(text: str) -> tuple[Item, ...]:
    items = tuple(_item(part.strip()) for part in re.findall(r"\[[^\]]*\]|[^,\[\s][^,\[]*", text))
    # NumPy would move the axis of a list to the front if a number stood beside it.
    if any(isinstance(item, tuple) for item in items) and not all(
        isinstance(item, tuple) or item == slice(None) for item in items
    ):
        raise NotationError(f"[{text}] has a list beside something other than ':'")
    if not items or sum(isinstance(item, tuple) for item in items) > 1:
        raise NotationError(f"[{text}] is no index with at most one list")
    return items


def _item(text: str) -> Item:
    if found := re.fullmatch(r"(\d*)\s*:\s*(\d*)", text):
        return slice(*(int(end) if end else None for end in found.groups()))
    if re.fullmatch(r"\d+", text):
        return int(text)
    if re.fullmatch(r"\[.*\]", text):
        return _numbers(text[1:-1])
    raise NotationError(f"[{text}] is neither a number, nor a slice, nor a list of numbers")
