"""Layers of a model, found in the record of its operations, however it is written."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from pipeline.verify.trace.graph import Array, Op, Role, Trace, Use

# Operations that multiply or add two values, as both frameworks call them.
PRODUCTS, SUMS = ("mul", "mul_"), ("add", "add_", "sub", "sub_", "add_any")
MATRICES = (Role.dot, Role.conv, Role.lookup)
# Operations of torch that take no more than shape and type from their operand.
FILLED = ("new_full", "new_zeros", "new_ones", "full_like", "zeros_like", "ones_like")


@dataclass(frozen=True)
class Layer:
    """Parameters that one step of a model uses: a matrix or a factor, with its summand.

    `elements` number all elements of the side's arrays: `[out, in, …]` of a matrix, `[rows, features]` of a
    table, `[values]` otherwise; `shift` is `[out]`, or None.
    """

    role: Role
    elements: np.ndarray
    shift: np.ndarray | None
    op: int  # place of the operation
    result: int  # place of its result, the summand included
    data: int | None  # place of what it is applied to
    data_axes: tuple[int, ...]
    root: int | None  # place of the result that `data` is a view of
    arrays: tuple[str, ...]  # names of its arrays
    shape: tuple[
        int, ...
    ] = ()  # of its only array, if it is used as a whole, without axes of length 1
    is_trained: bool = True  # False for a buffer, such as running statistics

    @property
    def signature(self) -> tuple[object, ...]:
        """Kind and sizes that a layer of the other side must share, but for its number of outputs.

        A convolution may be written as a product with patches.
        """
        if self.role in (Role.dot, Role.conv):
            return (Role.dot, prod(self.elements.shape[1:]))
        return (self.role, *self.elements.shape)

    @cached_property
    def key(self) -> tuple[object, ...]:
        """Role and elements, which tell it apart from the other layers of any pass of its model."""
        return self.role, *_key(self.elements)

    @property
    def name(self) -> str:
        """Common path of its arrays."""
        return common_path(self.arrays)

    @property
    def parts(self) -> list[np.ndarray]:
        """Its elements, and those of its summand."""
        return [self.elements] if self.shift is None else [self.elements, self.shift]

    @property
    def outputs(self) -> int:
        """Number of outputs of a matrix."""
        return self.elements.shape[0]


class Owners:
    """Names of a side's arrays by the number of an element."""

    def __init__(self, arrays: tuple[Array, ...]) -> None:
        self.arrays = arrays
        sizes = [int(np.prod(array.shape)) for array in arrays]
        self.ends = np.cumsum(sizes, dtype=np.int64)
        self.starts = self.ends - np.asarray(sizes, np.int64)

    @property
    def size(self) -> int:
        """Number of elements of all arrays."""
        return int(self.ends[-1]) if self.arrays else 0

    def names(self, elements: np.ndarray) -> list[str]:
        """Return the arrays that hold these elements, in order of appearance."""
        found = np.searchsorted(self.ends, elements.ravel(), side="right")
        changes = np.append(True, found[1:] != found[:-1])[: len(found)]
        return [self.arrays[at].name for at in dict.fromkeys(found[changes].tolist())]

    def is_trained(self, elements: np.ndarray) -> bool:
        """True if the array that holds the first of these elements is trained."""
        known = elements[elements >= 0]
        at = int(np.searchsorted(self.ends, known.flat[0], side="right")) if known.size else 0
        return not known.size or self.arrays[at].is_trained

    def shape(self, elements: np.ndarray) -> tuple[int, ...]:
        """Return the shape of the array whose elements these are in their order, without axes of length 1."""
        flat = elements.ravel()
        at = int(np.searchsorted(self.ends, flat[0], side="right")) if flat.size else len(self.ends)
        if at == len(self.ends) or not np.array_equal(flat, self.elements(at).ravel()):
            return ()
        return tuple(size for size in self.arrays[at].shape if size != 1)

    def elements(self, index: int) -> np.ndarray:
        """Return the numbers of an array's elements, in its shape."""
        return np.arange(self.starts[index], self.ends[index]).reshape(self.arrays[index].shape)


def find_layers(trace: Trace, owners: Owners) -> list[Layer]:
    """Return the layers of a model in the order of execution; each set of parameters once."""
    seen: set[tuple[int, ...]] = set()
    found: list[Layer] = []
    pending = list(_first_uses(trace, seen))
    taken: set[int] = set()
    for at, use in enumerate(pending):
        if at in taken:
            continue
        shift, result = None, use.op
        if use.role in (Role.dot, Role.conv, Role.scale):
            summand = _summand(trace, pending, at)
            if summand is not None and (
                summand in taken
                or owners.is_trained(pending[summand].elements) != owners.is_trained(use.elements)
            ):
                summand = None  # a norm subtracts its running mean from a result without a bias
            if summand is not None:
                taken.add(summand)
                shift, result = pending[summand].elements, pending[summand].op
        arrays = owners.names(use.elements)
        if shift is not None:
            arrays += owners.names(shift)
        op = trace.ops[use.op]
        is_sum = use.role is Role.other and op.name in SUMS and len(op.inputs) > 1
        found.append(
            Layer(
                Role.shift if is_sum else use.role,
                use.elements,
                shift,
                use.op,
                result,
                use.data,
                use.data_axes,
                None if use.data is None else root(trace.ops, use.data),
                tuple(arrays),
                owners.shape(use.elements),
                owners.is_trained(use.elements),
            )
        )
    return _without_parts(found)


def _without_parts(layers: Sequence[Layer]) -> list[Layer]:
    """Leave out factors and summands that are parts of others, as which another step uses them."""
    wholes: dict[str, list[np.ndarray]] = {}
    for layer in layers:
        for name in layer.arrays:
            wholes.setdefault(name, []).extend(layer.parts)

    def is_part(layer: Layer) -> bool:
        others = [other for name in layer.arrays for other in wholes[name]]
        larger = [other for other in others if other.size > layer.elements.size]
        return any(np.isin(layer.elements, other).all() for other in larger)

    return [layer for layer in layers if layer.role in MATRICES or not is_part(layer)]


def _first_uses(trace: Trace, seen: set[tuple[int, ...]]) -> Iterator[Use]:
    """Yield the first use of each set of elements: as a matrix, or as its summand, if it is ever one."""
    uses = list(_uses_of_data(trace))
    keys = [_key(use.elements) for use in uses]
    products = {use.op for use in uses if use.role in MATRICES}
    ranks = []  # 2 of a matrix, 1 of its summand, else 0
    for use in uses:
        data = () if use.data is None else (root(trace.ops, use.data),)
        is_summand = use.role is Role.shift and not products.isdisjoint((use.op, *data))
        ranks.append(2 if use.role in MATRICES else int(is_summand))
    best: dict[tuple[int, ...], int] = {}
    for key, rank in zip(keys, ranks, strict=True):
        best[key] = max(rank, best.get(key, 0))
    for key, rank, use in zip(keys, ranks, uses, strict=True):
        if key not in seen and rank == best[key]:
            seen.add(key)
            yield use


def _key(elements: np.ndarray) -> tuple[int, ...]:
    """Return numbers that tell sets of elements apart, in whatever order they are."""
    numbers = elements.ravel()
    if not numbers.size:
        return (0,)
    squares = int(np.dot(numbers, numbers))
    return (numbers.size, int(numbers.min()), int(numbers.max()), int(numbers.sum()), squares)


def _uses_of_data(trace: Trace) -> Iterator[Use]:
    """Yield the uses, without those on constants of elements that are used on the model's inputs, too.

    The first step of a recurrent layer takes a state of zeros, which leaves nothing but its biases.
    """
    depends: list[bool] = []  # on an input
    for op in trace.ops:
        takes = op.name not in FILLED and any(depends[at] for at in op.inputs)
        depends.append(op.name == "input" or takes)
    on_data = [any(depends[at] for at in trace.ops[use.op].inputs) for use in trace.uses]
    on_inputs = [use.elements for use, is_on in zip(trace.uses, on_data, strict=True) if is_on]
    known = np.zeros(1 + max((int(part.max()) for part in on_inputs), default=-1) + 1, bool)
    for part in on_inputs:
        known[part] = True
    known[-1] = False  # of element -1, which is of no array
    for use, is_on in zip(trace.uses, on_data, strict=True):
        if is_on or (use.elements >= len(known)).any() or not known[use.elements].all():
            yield use


def _summand(trace: Trace, uses: list[Use], at: int) -> int | None:
    """Return the place among `uses` of the summand of a product's result, if it has one."""
    use = uses[at]
    outputs = use.elements.shape[0]
    for later in range(at + 1, min(at + 4, len(uses))):
        other = uses[later]
        if other.role is Role.shift and other.elements.size == outputs:
            if other.op != use.op and any(it.op == other.op and it.role in MATRICES for it in uses):
                continue  # the summand of another matrix
            if other.op == use.op or (
                other.data is not None and _comes_from(trace, other.data, use)
            ):
                return later
    return None


def _comes_from(trace: Trace, place: int, use: Use) -> bool:
    """True for the result of a use, or for the last product of a norm that scales by factor and deviation."""
    place = root(trace.ops, place)
    if place == use.op or use.role is not Role.scale or trace.ops[place].name not in PRODUCTS:
        return place == use.op
    return use.op in (root(trace.ops, other) for other in trace.ops[place].inputs)


def root(ops: list[Op], place: int) -> int:
    """Return the result of which a result is only another view; a number to pad with does not count."""
    while ops[place].only_moves:
        inputs = [at for at in ops[place].inputs if ops[at].shape]
        if len(inputs) != 1:
            break
        place = inputs[0]
    return place


def common_path(names: Sequence[str]) -> str:
    """Return the longest dotted path that all names begin with; of one name, what is before its last part."""
    parts = [name.split(".") for name in names]
    if len(parts) == 1:
        return ".".join(parts[0][:-1]) or names[0]
    common = []
    for level in zip(*parts, strict=False):
        if len(set(level)) > 1:
            break
        common.append(level[0])
    return ".".join(common) or names[0]
