"""Record of the operations that a JAX function executes."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from flax_impl.device import PyTree
from flax_impl.verify.primitives.evaluation import traced
from flax_impl.verify.primitives.neutral import OTHER_RANDOM, RANDOM, Neutral
from flax_impl.verify.primitives.origin import source_line
from flax_impl.verify.primitives.precision import bind
from flax_impl.verify.primitives.substitutes import VIEWS
from flax_impl.verify.primitives.value import Value, is_number
from flax_impl.verify.trace.elements import follow
from flax_impl.verify.trace.replay import Operation, find_window
from flax_impl.verify.trace.uses import find_uses
from pipeline.verify.replay.program import Operand, Program
from pipeline.verify.sides.subject import MIDDLE
from pipeline.verify.trace.fingerprints import fingerprint
from pipeline.verify.trace.graph import Draw, Op, Use

# Primitives that move values, of parameters or not.
MOVES = {*VIEWS, "row", "pad", "gather", "dynamic_slice"} - {"concatenate"}
# Arguments of primitives that are kept in a record.
SETTINGS = {
    "window_strides", "padding", "lhs_dilation", "rhs_dilation", "feature_group_count", "window_dimensions",
    "dimension_numbers", "axes", "axis", "dimensions", "exponent", "y", "new_sizes", "permutation",
    "new_dtype",
}  # fmt: skip


class Enough(Exception):
    """The operation that was asked for has been recorded."""


class Recorder(Neutral):
    """Records what a function executes."""

    def __init__(
        self,
        keep: Collection[int] = (),
        until: int | None = None,
        nudge: float = 0.0,
        uniform: float = MIDDLE,
        root: str = "",
    ) -> None:
        super().__init__(nudge, uniform, root)
        self.keep, self.until = keep, until
        self.kept: dict[int, np.ndarray] = {}
        self.ops: list[Op] = []
        self.uses: list[Use] = []
        self.draws: list[Draw] = []
        self.elements = 0  # numbered so far
        self.is_fixed: list[bool] = []  # of a result: no input of the model leads to it
        self.program: Program[PyTree] = Program()

    def source(self, array: PyTree, name: str, layer: str = "") -> Value:
        """Introduce an input, parameter, buffer or constant."""
        elements = None
        if name in ("parameter", "buffer"):
            size = int(np.prod(array.shape))
            elements = np.arange(self.elements, self.elements + size).reshape(array.shape)
            self.elements += size
        value = Value(array, -1, elements, register=self.program.add_register())
        kind = "input" if name == "input" else "parameter"
        self.program.sources[kind, layer] = value.register
        value.place = self._add(array, name, layer=layer, register=value.register)
        return value

    def operate(self, eqn: JaxprEqn, args: list[Value], layer: str) -> list[Value]:
        """Evaluate a primitive, and record it unless it only shows parameters."""
        name = eqn.primitive.name
        if name in VIEWS and all(arg.elements is not None for arg in args):
            views = VIEWS[name](*(arg.elements for arg in args), **eqn.params)
            every = views if isinstance(views, list) else [views]
            outs = bind(eqn, [arg.array for arg in args], {})
            found = [Value(o, args[0].place, v) for o, v in zip(outs, every, strict=True)]
            self._record_step(partial(bind, eqn), eqn, args, found, is_view=True)
            return found
        if name in OTHER_RANDOM:
            self.draws.append(
                Draw(
                    name,
                    0.0,
                    int(np.prod(getattr(eqn.outvars[-1].aval, "shape", ()))),
                    len(self.ops),
                )
            )
        outs = bind(eqn, [arg.array for arg in args], {})
        computed = None
        self._add_constants(args)
        if len(outs) == 1 and all(self._is_fixed(arg) for arg in args):
            moved, computed = follow(eqn, args, outs[0])
            if moved is not None:
                self._record_step(partial(bind, eqn), eqn, args, [moved], is_view=True)
                return [moved]
        inputs = tuple(dict.fromkeys(self.place(arg) for arg in args if not is_number(arg)))
        numbers = tuple(float(arg.array) for arg in args if is_number(arg))
        first = len(self.ops)
        shapes = [np.shape(arg.array) for arg in args]
        places = [self._add(out, name, inputs, numbers, eqn, layer, shapes=shapes) for out in outs]
        found = [
            Value(out, place, computed=computed) for out, place in zip(outs, places, strict=True)
        ]
        self._record_step(partial(bind, eqn), eqn, args, found)
        if any(arg.matrix is not None for arg in args):
            self.uses += find_uses(eqn, args, first)
        if self.until is not None and len(self.ops) > self.until:
            raise Enough
        return found

    def _is_fixed(self, value: Value) -> bool:
        """True for a value that no input of the model leads to."""
        return value.place < 0 or self.is_fixed[value.place]

    def draw(self, eqn: JaxprEqn, function: str, args: list[Value], layer: str) -> list[Value]:
        """Return constants in place of random numbers, and note the draw."""
        out = super().draw(eqn, function, args, layer)[0].array
        kind, _ = RANDOM[function]
        number = self._probability(eqn, args) if kind == "bernoulli" else 0.5
        self.draws.append(Draw(kind, number, out.size, len(self.ops)))
        value = Value(out, self._add(out, function, (), (number,), eqn, layer))
        self._record_step(lambda *_: [out], None, [], [value])
        return [value]

    def _probability(self, eqn: JaxprEqn, args: list[Value]) -> float:
        """Return the probability of a Bernoulli: the number that it compares uniform ones with.

        It need not be an argument: a scan of Flax computes ahead what does not depend on a key.
        """
        probe = Neutral()
        probe.closed(eqn.params["jaxpr"], [Value(arg.array) for arg in args], "")
        return float(np.max(probe.bound))

    def row(self, value: Value, index: int) -> Value:
        """Return a row of an operand of a scan, and record it unless it shows parameters."""
        elements = None if value.elements is None else value.elements[index]
        array = value.array[index]
        if elements is not None:
            row = Value(array, value.place, elements)
        else:
            row = Value(array, self._add(array, "row", (self.place(value),)))
        self._record_step(lambda x, _: [x[0][index]], None, [value], [row], elements is not None)
        return row

    def stack(self, rows: list[Value], eqn: JaxprEqn, layer: str) -> Value:
        """Return the rows of a result of a scan as one."""
        array = super().stack(rows, eqn, layer).array
        places = tuple(dict.fromkeys(value.place for value in rows))
        value = Value(array, self._add(array, "stack", places, (), eqn, layer))
        self._record_step(lambda rows, _: [jnp.stack(rows)], None, rows, [value])
        return value

    def _add_constants(self, args: list[Value]) -> None:
        """Give registers to values that no step has made."""
        for arg in args:
            if arg.register < 0:
                arg.register = self.program.add_register()
                self.program.constants[arg.register] = arg.array

    def _record_step(
        self,
        call: Callable[[list[PyTree], Mapping[str, Any]], Sequence[PyTree]],
        eqn: JaxprEqn | None,
        args: list[Value],
        results: list[Value],
        is_view: bool = False,
    ) -> None:
        """Add an operation to the program, to be run again."""
        self._add_constants(args)
        for result in results:
            result.register = self.program.add_register()
            if not is_view:
                self.program.registers[result.place] = result.register
        self.program.steps.append(
            Operation(
                tuple(Operand(arg.register, arg.place) for arg in args),
                tuple(result.register for result in results),
                tuple(-1 if is_view else result.place for result in results),
                call,
                eqn.primitive.name if eqn else "",
                eqn.params if eqn else {},
                tuple(at for at, arg in enumerate(args) if is_number(arg)),
            )
        )

    def place(self, value: Value) -> int:
        """Return the place of a value's result; an unknown one is a constant."""
        if value.place < 0:
            self._add_constants([value])
            value.place = self._add(
                value.array, "constant", register=value.register, dtype=value.dtype
            )
        return value.place

    def _add(
        self,
        array: PyTree,
        name: str,
        inputs: tuple[int, ...] = (),
        numbers: tuple[float, ...] = (),
        eqn: JaxprEqn | None = None,
        layer: str = "",
        shapes: Sequence[tuple[int, ...]] = (),
        register: int = -1,
        dtype: str = "",
    ) -> int:
        if register >= 0:
            self.program.registers[len(self.ops)] = register
        self.is_fixed.append(name != "input" and all(self.is_fixed[place] for place in inputs))
        array = array if hasattr(array, "shape") else np.asarray(array)
        is_float = jnp.issubdtype(array.dtype, jnp.floating) and name not in ("parameter", "buffer")
        self.ops.append(
            Op(
                name,
                inputs,
                numbers,
                {key: str(value) for key, value in eqn.params.items() if key in SETTINGS}
                if eqn
                else {},
                tuple(array.shape),
                dtype or str(array.dtype),
                layer,
                source_line(eqn) if eqn else "",
                name in MOVES,
                fingerprint(np.asarray(array)) if is_float else None,
                ".".join(filter(None, self.functions)),
                find_window(name, eqn.params, shapes, array.shape) if eqn else None,
            )
        )
        if len(self.ops) - 1 in self.keep:
            self.kept[len(self.ops) - 1] = np.asarray(array)
        return len(self.ops) - 1


def record(
    function: Callable[..., PyTree],
    arrays: Mapping[str, PyTree],
    inputs: Mapping[str, PyTree],
    keep: Collection[int] = (),
    until: int | None = None,
    nudge: float = 0.0,
    uniform: float = MIDDLE,
    root: str = "",
) -> tuple[Recorder, PyTree, PyTree]:
    """Record `function(arrays, inputs)`.

    Returns the recorder, the tree of its results, and the tree of their places; None for both if it
    ends after place `until`.
    """
    recorder = Recorder(keep, until, nudge, uniform, root)
    closed, shape = traced(function, dict(arrays), dict(inputs))
    # A tree's leaves are in the order of sorted keys; elements are numbered in the order of `arrays`.
    values = {name: recorder.source(a, "parameter", name) for name, a in arrays.items()}
    given = {name: recorder.source(a, "input", name) for name, a in inputs.items()}
    args = jax.tree.leaves((values, given), is_leaf=lambda leaf: isinstance(leaf, Value))
    consts = recorder.constants(closed.consts)
    try:
        results = recorder.evaluate(closed.jaxpr, consts, args)
    except Enough:
        return recorder, None, None
    tree = jax.tree.structure(shape)
    places = [recorder.place(result) for result in results]
    return (
        recorder,
        jax.tree.unflatten(tree, [result.array for result in results]),
        jax.tree.unflatten(tree, places),
    )
