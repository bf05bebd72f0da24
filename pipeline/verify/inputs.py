"""Inputs of a check: drawn from a description, or by the user's own function."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pipeline.errors import BadArgument
from pipeline.rng import generator
from pipeline.user_code import shortened
from pipeline.verify.sides.subject import Inputs

GRAMMAR = """NAME=TYPE[SHAPE] and, where it matters, a range or a layout:
  x=float32[8,3,32,32] NCHW      images, turned for a side that wants NHWC
  input_ids=int32[2,16] 1..100   integers from 1 to 99
  attention_mask=mask[2,16]      ones, then zeros at the end of each row but the first
  flags=bool[2,16]               true or false"""
PATTERN = re.compile(
    r"(?P<name>\w+)=(?P<kind>[a-z]+\d*)\[(?P<shape>[\d,\s]*)\]"
    r"(?:\s+(?P<low>-?\d+)\.\.(?P<high>-?\d+))?(?:\s+(?P<layout>[A-Z]+))?\s*"
)
LAYOUTS = ("NCHW", "NHWC", "NCL", "NLC", "NCDHW", "NDHWC")
KINDS = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "bool", "mask")


@dataclass(frozen=True)
class Spec:
    """One input: what it holds, and how large it is."""

    name: str
    kind: str
    shape: tuple[int, ...]
    low: int = 0
    high: int = 2
    layout: str = ""  # `NCHW` or `NHWC`, as the user describes it

    def draw(self, seed: int) -> np.ndarray:
        """Draw an array from the input's own stream of the seed."""
        random = generator(seed, "input", self.name)
        if self.kind.startswith(("float", "bfloat")):
            return random.standard_normal(self.shape)
        if self.kind == "bool":
            return random.integers(0, 2, self.shape).astype(bool)
        if self.kind == "mask":
            lengths = random.integers(
                max(1, self.shape[-1] // 2), self.shape[-1] + 1, self.shape[:-1]
            )
            lengths.flat[0] = self.shape[-1]
            return (np.arange(self.shape[-1]) < lengths[..., None]).astype(np.int64)
        return self._integers(random)

    def _integers(self, random: np.random.Generator) -> np.ndarray:
        """Draw integers: as many different ones as fit, the first and the last among them, and some twice.

        A row of a table may be special (padding), and show in no other.
        """
        found = random.integers(self.low, self.high, self.shape)
        flat, size = found.reshape(-1), self.high - self.low
        count = min(size, flat.size - flat.size // 8)
        if size > 2 and count > 1:
            others = random.choice(size - 2, count - 2, replace=False) + self.low + 1
            flat[:count] = [self.low, self.high - 1, *others]
            random.shuffle(flat)
        return found


def parse(text: str) -> Spec:
    """Parse a description such as `x=float32[8,3,32,32] NCHW`.

    Raises:
        BadArgument: it does not follow the grammar.
    """
    found = PATTERN.fullmatch(text.strip())
    if not found:
        raise BadArgument(f"--inputs '{text}'", allowed=GRAMMAR)
    name, kind = found["name"], found["kind"]
    if kind not in KINDS:
        raise BadArgument(f"--inputs '{text}'", allowed=f"of type {', '.join(KINDS)}, not {kind}")
    sizes = [int(size) for size in found["shape"].split(",") if size.strip()]
    if not sizes or 0 in sizes:
        raise BadArgument(f"--inputs '{text}'", problem="its shape has no elements")
    low, high = int(found["low"] or 0), int(found["high"] or 2)
    if kind.startswith("int") and found["high"] is None:
        hint = f"Write {name}={kind}[{found['shape']}] 0..N: numbers from 0 to N - 1."
        raise BadArgument(f"--inputs '{text}'", problem="integers need a range", hint=hint)
    if low >= high:
        raise BadArgument(f"--inputs '{text}'", problem=f"the range {low}..{high} is empty")
    layout = found["layout"] or ""
    if layout and layout not in LAYOUTS:
        problem = f"{layout} is no layout"
        raise BadArgument(
            f"--inputs '{text}'", problem=problem, hint=f"Known: {', '.join(LAYOUTS)}."
        )
    if layout and len(layout) != len(sizes):
        problem = f"{layout} names {len(layout)} axes, the shape has {len(sizes)}"
        raise BadArgument(f"--inputs '{text}'", problem=problem)
    return Spec(name, kind, tuple(sizes), low, high, layout)


@dataclass(frozen=True)
class Described:
    """Inputs drawn from descriptions, the same for both sides."""

    specs: tuple[Spec, ...]

    @property
    def layouts(self) -> dict[str, str]:
        """Layouts of images by the input's name."""
        return {spec.name: spec.layout for spec in self.specs if spec.layout}

    def draw(self, seed: int) -> tuple[Inputs, Inputs]:
        """Draw the inputs of both sides."""
        drawn = {spec.name: spec.draw(seed) for spec in self.specs}
        return drawn, drawn

    def variants(self) -> dict[str, "Described"]:
        """Return the same inputs in other sizes: one sample; an odd length; twice the length and one."""
        found = {"one sample": self._resized(lambda shape: (1, *shape[1:]))}
        lengths = [spec.shape[1] for spec in self.specs if spec.kind.startswith(("int", "mask"))
                   and len(spec.shape) > 1]  # fmt: skip
        if lengths and min(lengths) > 2:
            # Of two lengths, such as an encoder's and a decoder's, each is shortened.
            found["shorter"] = self._resized(
                lambda shape: (shape[0], *(n - 1 - n % 2 if n in lengths else n for n in shape[1:]))
            )
            found["longer"] = self._resized(
                lambda shape: (shape[0], *(2 * n + 1 if n in lengths else n for n in shape[1:]))
            )
        return found

    def _resized(self, size: Callable[[tuple[int, ...]], tuple[int, ...]]) -> "Described":
        return Described(tuple(replace(spec, shape=size(spec.shape)) for spec in self.specs))


@dataclass(frozen=True)
class Drawn:
    """Inputs from the user's own function of a seed: a dictionary of arrays, or a pair of them."""

    function: Callable[[int], object]
    layouts: Mapping[str, str]
    path: str = ""  # of the function, for messages

    def draw(self, seed: int) -> tuple[Inputs, Inputs]:
        """Draw the inputs of both sides.

        Raises:
            BadArgument: the function raises, or returns something else.
        """
        try:
            drawn = self.function(seed)
        except Exception as error:  # of the user's code: of any kind
            problem = f"the function, called with the seed {seed}, raises {shortened(error)}"
            hint = "Mend it: it takes a seed and returns a dictionary of NumPy arrays, or a pair of them."
            raise BadArgument(
                f"--inputs {self.path}".rstrip(), problem=problem, hint=hint
            ) from error
        sides = drawn if isinstance(drawn, Sequence) else (drawn, drawn)
        if len(sides) != 2 or not all(isinstance(side, Mapping) for side in sides):
            problem = f"the function returns {type(drawn).__name__}"
            hint = "Return a dictionary of NumPy arrays by input name, or a pair of them."
            raise BadArgument(f"--inputs {self.path}".rstrip(), problem=problem, hint=hint)
        return self._arrays(sides[0]), self._arrays(sides[1])

    def _arrays(self, side: Any) -> Inputs:
        arrays = {name: np.asarray(value) for name, value in side.items()}
        for name, array in arrays.items():
            if array.dtype.kind not in "biuf":
                problem = f"its {name} has the type {array.dtype}"
                hint = "Return arrays of numbers: floats, integers or booleans."
                raise BadArgument(f"--inputs {self.path}".rstrip(), problem=problem, hint=hint)
        return arrays

    def variants(self) -> dict[str, "Drawn"]:
        """Return no other sizes: the function decides."""
        return {}
