"""Evaluation of a JAX function that records its operations."""

from collections.abc import Callable, Collection, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from flax_impl.device import PyTree
from flax_impl.verify.primitives.evaluation import traced
from flax_impl.verify.primitives.neutral import OTHER_RANDOM, RANDOM, Neutral
from flax_impl.verify.primitives.precision import bind
from flax_impl.verify.primitives.substitutes import VIEWS
from flax_impl.verify.primitives.value import Value, is_number
from flax_impl.verify.trace.elements import follow
from flax_impl.verify.trace.record import Record
from flax_impl.verify.trace.uses import find_uses
from pipeline.verify.sides.subject import MIDDLE
from pipeline.verify.trace.graph import Draw


class Enough(Exception):
    """The operation that was asked for has been recorded."""


class Recorder(Neutral):
    """Records what a function executes, up to the place `until`."""

    def __init__(
        self,
        keep: Collection[int] = (),
        until: int | None = None,
        nudge: float = 0.0,
        uniform: float = MIDDLE,
        root: str = "",
    ) -> None:
        super().__init__(nudge, uniform, root)
        self.until = until
        self.record = Record(keep, self.functions)

    def operate(self, eqn: JaxprEqn, args: list[Value], layer: str) -> list[Value]:
        """Evaluate a primitive, and record it unless it only shows parameters."""
        name, record = eqn.primitive.name, self.record
        if name in VIEWS and all(arg.elements is not None for arg in args):
            views = VIEWS[name](*(arg.elements for arg in args), **eqn.params)
            every = views if isinstance(views, list) else [views]
            outs = bind(eqn, [arg.array for arg in args], {})
            found = [Value(o, args[0].place, v) for o, v in zip(outs, every, strict=True)]
            record.add_step(partial(bind, eqn), eqn, args, found, is_view=True)
            return found
        if name in OTHER_RANDOM:
            size = int(np.prod(getattr(eqn.outvars[-1].aval, "shape", ())))
            record.draws.append(Draw(name, 0.0, size, len(record.ops)))
        outs = bind(eqn, [arg.array for arg in args], {})
        computed = None
        record.add_constants(args)
        if len(outs) == 1 and all(record.is_fixed(arg) for arg in args):
            moved, computed = follow(eqn, args, outs[0])
            if moved is not None:
                record.add_step(partial(bind, eqn), eqn, args, [moved], is_view=True)
                return [moved]
        inputs = tuple(dict.fromkeys(record.place(arg) for arg in args if not is_number(arg)))
        numbers = tuple(float(arg.array) for arg in args if is_number(arg))
        first = len(record.ops)
        shapes = [np.shape(arg.array) for arg in args]
        places = [record.add(out, name, inputs, numbers, eqn, layer, shapes) for out in outs]
        found = [
            Value(out, place, computed=computed) for out, place in zip(outs, places, strict=True)
        ]
        record.add_step(partial(bind, eqn), eqn, args, found)
        if any(arg.matrix is not None for arg in args):
            record.uses += find_uses(eqn, args, first)
        if self.until is not None and len(record.ops) > self.until:
            raise Enough
        return found

    def draw(self, eqn: JaxprEqn, function: str, args: list[Value], layer: str) -> list[Value]:
        """Return constants in place of random numbers, and note the draw."""
        out = super().draw(eqn, function, args, layer)[0].array
        kind, _ = RANDOM[function]
        number = self._probability(eqn, args) if kind == "bernoulli" else 0.5
        self.record.draws.append(Draw(kind, number, out.size, len(self.record.ops)))
        value = Value(out, self.record.add(out, function, (), (number,), eqn, layer))
        self.record.add_step(lambda *_: [out], None, [], [value])
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
            row = Value(array, self.record.add(array, "row", (self.record.place(value),)))
        is_view = elements is not None
        self.record.add_step(lambda x, _: [x[0][index]], None, [value], [row], is_view)
        return row

    def stack(self, rows: list[Value], eqn: JaxprEqn, layer: str) -> Value:
        """Return the rows of a result of a scan as one."""
        array = super().stack(rows, eqn, layer).array
        places = tuple(dict.fromkeys(value.place for value in rows))
        value = Value(array, self.record.add(array, "stack", places, (), eqn, layer))
        self.record.add_step(lambda rows, _: [jnp.stack(rows)], None, rows, [value])
        return value


def record_call(
    function: Callable[..., PyTree],
    arrays: Mapping[str, PyTree],
    inputs: Mapping[str, PyTree],
    recorder: Recorder,
) -> tuple[PyTree, PyTree]:
    """Record `function(arrays, inputs)`.

    Returns the tree of its results, and the tree of their places; None for both if the recorder ended before.
    """
    record = recorder.record
    closed, shape = traced(function, dict(arrays), dict(inputs))
    # A tree's leaves are in the order of sorted keys; elements are numbered in the order of `arrays`.
    values = {name: record.source(a, "parameter", name) for name, a in arrays.items()}
    given = {name: record.source(a, "input", name) for name, a in inputs.items()}
    args = jax.tree.leaves((values, given), is_leaf=lambda leaf: isinstance(leaf, Value))
    consts = recorder.constants(closed.consts)
    try:
        results = recorder.evaluate(closed.jaxpr, consts, args)
    except Enough:
        return None, None
    tree = jax.tree.structure(shape)
    places = [record.place(result) for result in results]
    found = [result.array for result in results]
    return jax.tree.unflatten(tree, found), jax.tree.unflatten(tree, places)
