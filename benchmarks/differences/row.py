"""A row of the page: one operation, as the code that calls it in each framework."""

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

Draw = Callable[[np.random.Generator, int], np.ndarray]  # inputs from a generator and a seed
# Runs a row's code in a framework and returns the quantity that is compared.
Play = Callable[["Code", "Case"], np.ndarray]

# Those that a row compares with torch, in the order of the columns, and their names on the page.
OTHERS = {"linen": "linen", "nnx": "NNX", "equinox": "Equinox", "jax": "JAX", "optax": "optax"}
SAME = 1e-12


@dataclass(frozen=True)
class Code:
    """An expression in one framework; names that it may use are those of `namespaces.py`."""

    framework: str
    text: str

    def closed(self, closing: str) -> "Code":
        """Return the code with the keyword arguments `closing`, or `closing` if that is an expression."""
        arguments = _arguments(closing)
        if not arguments:
            return Code(self.framework, closing)
        call = ast.parse(self.text, mode="eval").body
        assert isinstance(call, ast.Call), f"{self.text!r} is no call that takes {closing!r}"
        given = {keyword.arg for keyword in arguments}
        kept = [keyword for keyword in call.keywords if keyword.arg not in given]
        call.keywords = kept + arguments
        return Code(self.framework, ast.unparse(call))


@dataclass(frozen=True)
class Case:
    """Inputs of one measurement; `torch` is torch's code, whose layer decides the shapes of the weights."""

    seed: int
    inputs: Mapping[str, np.ndarray]
    torch: Code


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """Difference of the frameworks' defaults from torch's, and the arguments that close it.

    Args:
        key: stable name of the row, an anchor of the page.
        title: name of the operation, and of the quantity that is compared.
        torch: torch's code.
        linen: linen's; the same for `nnx`, `equinox`, `jax` and `optax`; empty where there is none.
        closed: keyword arguments (`epsilon=1e-5`) or a whole expression that make a framework equal to
            torch, by framework or for all.
        torch_closed: the same on torch's side; compared with the others as they are.
        inputs: arrays that the code uses, by name.
        play: how the code is run; see `plays/`.
        same: the largest difference of what is called equal.
        factor: how far apart two measurements of one difference may be, on another machine, say.
        seeds: inputs and weights are drawn anew for each.
        refusals: whether an exception is a result.
    """

    key: str
    title: str
    torch: str
    play: Play
    linen: str = ""
    nnx: str = ""
    equinox: str = ""
    jax: str = ""
    optax: str = ""
    closed: str | Mapping[str, str] = ""
    torch_closed: str = ""
    inputs: Mapping[str, Draw] = field(default_factory=dict)
    same: float = SAME
    factor: float = 3.0
    seeds: Sequence[int] = (0, 1)
    refusals: bool = False

    @property
    def others(self) -> dict[str, Code]:
        """Code of each framework that is compared with torch."""
        return {name: Code(name, getattr(self, name)) for name in OTHERS if getattr(self, name)}

    def closing(self, framework: str) -> str:
        """Arguments that make a framework equal to torch; empty if none do, or none are needed."""
        return self.closed if isinstance(self.closed, str) else self.closed.get(framework, "")


def flax(closing: str) -> dict[str, str]:
    """Make a closing of linen and NNX alone."""
    return {"linen": closing, "nnx": closing}


def _arguments(text: str) -> list[ast.keyword]:
    """Parse `epsilon=1e-5, use_bias=False`; an empty list if it is an expression."""
    try:
        call = ast.parse(f"f({text})", mode="eval").body
    except SyntaxError:
        return []
    assert isinstance(call, ast.Call)
    return [] if call.args else call.keywords
