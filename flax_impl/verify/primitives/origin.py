"""Module and line of code that a primitive comes from."""

import re
from pathlib import Path

import flax
from jax.extend import source_info_util
from jax.extend.core import JaxprEqn

# Frames of these libraries are not the user's code.
OURS = Path(__file__).parents[1], Path(__file__).parents[2] / "adapters"
for library in (flax.__path__[0], *map(str, OURS)):
    source_info_util.register_exclusion(library)


def layer_of(outer: str, stack: str, root: str) -> str:
    """Return the path of a module below another one, without the root, methods and transformations."""
    inner, count = stack, 1
    while count:  # one within another
        inner, count = re.subn(
            r"\b(jvp|vmap|transpose|jit|remat|checkpoint|rematted_computation)\(([^()]*)\)",
            r"\2",
            inner,
        )
    # Neither the scopes of Equinox, named by a class, nor those of an einsum are modules.
    inner = re.sub(r"(^|/)(eqx\.nn\.\w+|[^/]*->[^/]*)", "", inner)
    # Linen's scopes are named by the module, and by its method if that is not its call.
    inner = [part.partition(".")[0] for part in inner.split("/") if part]
    if not outer and inner[:1] == [root]:
        inner = inner[1:]
    return ".".join(part for part in (outer, *inner) if part)


def source_line(eqn: JaxprEqn) -> str:
    """Return file and line of the user's code."""
    summary = source_info_util.summarize(eqn.source_info)
    found = re.match(r".*?([^/]+\.py):(\d+)", summary)
    return f"{found[1]}:{found[2]}" if found else ""
