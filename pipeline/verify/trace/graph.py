"""Record of the operations that a model executes, in order, with the fingerprint of each result.

Both sides are recorded below their layers, where all styles of writing a model look alike: torch's
dispatched operations, JAX's primitives. The core reads only what is here.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from pipeline.storage.portable_state import Arrays
from pipeline.verify.trace.fingerprints import Fingerprint


class Role(StrEnum):
    """Use of a parameter or buffer in an operation."""

    dot = "dot"  # one factor of a matrix product
    conv = "conv"  # kernel of a convolution
    lookup = "lookup"  # table whose rows are looked up
    scale = "scale"  # factor
    shift = "shift"  # summand
    other = "other"


@dataclass(frozen=True)
class Window:
    """Windows that a convolution or pooling slides over its data, axis by axis.

    Padding at the end is what the result needs: with a stride, less than was asked for may be used.
    """

    kind: str  # `conv`, `max`, `sum`, `mean`
    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    spread: tuple[int, ...] = ()  # of the data: the stride of a transposed convolution
    counts_padding: bool = True  # of a mean: padding counts as values


@dataclass(frozen=True)
class Op:
    """One result of an operation; an operation with several results is several in a row.

    Inputs of the model, parameters, buffers and constants are results of operations without inputs,
    called `input`, `parameter`, `buffer` and `constant`.
    """

    name: str  # the framework's name of the operation
    inputs: tuple[int, ...] = ()  # places in `Trace.ops` of the results that it takes
    numbers: tuple[float, ...] = ()  # numbers among its arguments: an epsilon, a scale
    settings: dict[str, str] = field(default_factory=dict)  # other arguments by name
    shape: tuple[int, ...] = ()
    dtype: str = ""  # `float64`, …; of a constant, that in which the model holds it
    layer: str = ""  # innermost module that executes it, by its dotted path
    source: str = ""  # line of the user's code: `my_models.py:12`
    only_moves: bool = False  # True if it changes the order, shape or type of values alone
    fingerprint: Fingerprint | None = None  # None for integers and booleans
    function: str = ""  # named function of the framework that it is part of: `gelu`, `softmax`
    window: Window | None = None


@dataclass(frozen=True)
class Use:
    """Use of parameters or buffers as an operand.

    `elements` are the elements used, numbered through all arrays of the side in the order of
    `Description.arrays`: dot `[out, in]`, conv `[out, in, …]`, lookup `[rows, features]`, otherwise
    `[values]`. Number -1 is an element of no parameter.
    """

    role: Role
    elements: np.ndarray
    op: int  # place of the operation in `Trace.ops`
    data: int | None = None  # place of its other operand
    data_axes: tuple[int, ...] = ()  # axes of `data` that are contracted, or that hold channels


@dataclass(frozen=True)
class Draw:
    """Random numbers that an operation draws."""

    kind: str  # `bernoulli`, `normal`, `uniform`, or the framework's name of an unknown one
    number: float  # a Bernoulli's probability to be one
    size: int  # how many
    op: int


@dataclass
class Trace:
    """One pass of a model."""

    ops: list[Op]
    uses: list[Use]
    outputs: dict[str, np.ndarray]  # leaves by path: `logits`, `0`, `0.hidden`
    results: dict[str, int]  # places in `ops` of the outputs
    buffers: Arrays = field(default_factory=dict)  # after the pass, those that it has changed
    draws: list[Draw] = field(default_factory=list)
    kept: dict[int, np.ndarray] = field(
        default_factory=dict
    )  # results that were asked for, by place
    updates: dict[str, int] = field(default_factory=dict)  # places in `ops` of the changed buffers


def ancestors(ops: Sequence[Op], places: Iterable[int]) -> set[int]:
    """Return places with all that they depend on."""
    seen: set[int] = set()
    pending = list(places)
    while pending:
        place = pending.pop()
        if place not in seen:
            seen.add(place)
            pending.extend(ops[place].inputs)
    return seen


@dataclass(frozen=True)
class Array:
    """A parameter or buffer of a model, by the name that its own framework gives it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    is_trained: bool = True  # False for a buffer, or a parameter without gradient


@dataclass(frozen=True)
class Description:
    """A model, as its worker tells the core."""

    kind: str  # `torch.nn.Module`, `flax.linen.Module`, …
    arrays: tuple[Array, ...]
    notes: tuple[str, ...] = ()  # what its adapter has assumed, for the user
    layers: Mapping[str, str] = field(default_factory=dict)  # kinds of its layers, if known
    modes: tuple[str, str] = (
        "plain",
        "compiled",
    )  # names of the two ways to run it, see `Subject.lane`
