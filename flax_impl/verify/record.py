"""Record of the operations that a JAX function executes: its jaxpr, evaluated one primitive at a time."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import source_info_util
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from flax_impl.device import PyTree
from flax_impl.verify.function import narrowed
from flax_impl.verify.loops import retrace, scan_counts
from flax_impl.verify.replay import Operation, find_window
from flax_impl.verify.substitutes import VIEWS, substitute
from pipeline.verify.replay.program import Operand, Program
from pipeline.verify.sides.subject import MIDDLE
from pipeline.verify.tags import tags, untag
from pipeline.verify.trace.constants import nudged
from pipeline.verify.trace.fingerprints import fingerprint
from pipeline.verify.trace.graph import Draw, Op, Role, Use

# Primitives that move values, of parameters or not.
MOVES = {*VIEWS, "row", "pad", "gather", "dynamic_slice"} - {"concatenate"}
# Primitives that hold a function which is evaluated in their place, by the name of the argument.
CALLS = {
    "jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr",
    "remat": "jaxpr", "remat2": "jaxpr", "checkpoint": "jaxpr", "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr", "custom_vjp_call_jaxpr": "fun_jaxpr",
}  # fmt: skip
CUSTOM = {"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"}
# Functions of jax.random that draw: kind, and the value that takes the place of every number. A mask of
# ones keeps all, so that dropout scales by 1 / (1 - rate): its rate and place show in the results.
RANDOM = {
    "_bernoulli": ("bernoulli", 1.0), "_uniform": ("uniform", 0.5), "_normal": ("normal", 1.0),
    "_normal_real": ("normal", 1.0), "_truncated_normal": ("normal", 1.0),
    # A Gumbel number is -log of an exponential one.
    "_exponential": ("exponential", 1.0), "_gumbel": ("exponential", 0.0),
}  # fmt: skip
OTHER_RANDOM = ("random_bits", "threefry2x32", "rng_bit_generator", "rng_uniform")
SCALES, SHIFTS = {"mul", "div"}, {"add", "sub", "add_any"}
# Primitives whose result may have the shape of an operand, but not its elements one by one.
UNORDERED = {
    "dot_general", "conv_general_dilated", "gather", "sort", "cumsum", "cumprod", "qr", "svd", "eigh",
    "householder_product", "cholesky", "triangular_solve", "lu", "fft", "cumlogsumexp",
}  # fmt: skip
MOST_ITERATIONS = 512  # of a scan that is evaluated iteration by iteration


@dataclass
class Value:
    """A value, the place of its result, and the numbers of its elements if it shows parameters."""

    array: PyTree
    place: int = -1
    elements: np.ndarray | None = None
    computed: np.ndarray | None = None  # the same of a matrix that is made of parameters
    register: int = -1  # in the program that is recorded
    dtype: str = ""  # of a constant in float32, before it was lifted

    @property
    def matrix(self) -> np.ndarray | None:
        """Numbers of its elements if it is used as a matrix."""
        return self.computed if self.elements is None else self.elements


class Enough(Exception):
    """The operation that was asked for has been recorded."""


class Interpreter:
    """Evaluates a jaxpr in float64; with `recording`, records each result.

    float32 inside the function is lifted to float64.
    """

    def __init__(
        self,
        recording: bool,
        keep: Collection[int] = (),
        until: int | None = None,
        nudge: float = 0.0,
        uniform: float = MIDDLE,
        root: str = "",
    ) -> None:
        """Take `root`, the scope around those of all layers; for the others see `Subject`."""
        self.recording, self.keep, self.until = recording, keep, until
        self.root = root
        self.nudge, self.uniform = nudge, uniform
        self.kept: dict[int, np.ndarray] = {}
        self.ops: list[Op] = []
        self.uses: list[Use] = []
        self.draws: list[Draw] = []
        self.elements = 0  # numbered so far
        self.is_fixed: list[bool] = []  # of a result: no input of the model leads to it
        self.functions: list[str] = []  # being evaluated, by their names, innermost last
        self.program: Program[PyTree] = Program()
        self.bound: PyTree = 0.5  # second operand of the last comparison

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

    def evaluate(
        self, jaxpr: Jaxpr, consts: Sequence[Value], args: Sequence[Value], layer: str = ""
    ) -> list[Value]:
        """Evaluate a function; `layer` is the module that calls it."""
        env: dict[Any, Value] = {}

        def read(atom: Any) -> Value:
            if isinstance(atom, Literal):
                return self.constants([atom.val])[0]
            return env[atom]

        env.update(zip(jaxpr.constvars, consts, strict=True))
        env.update(zip(jaxpr.invars, args, strict=True))
        for eqn in jaxpr.eqns:
            results = self._equation(eqn, [read(atom) for atom in eqn.invars], layer)
            env.update(zip(eqn.outvars, results, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, eqn: JaxprEqn, args: list[Value], layer: str) -> list[Value]:
        name = eqn.primitive.name
        layer = layer_of(layer, str(eqn.source_info.name_stack), self.root)
        if name in CALLS:
            function = str(eqn.params.get("name", ""))
            if function in RANDOM and _draws(eqn):
                return self._draw(eqn, function, args, layer)
            inner: Any = eqn.params[CALLS[name]]
            if name not in CUSTOM or not _is_traced(args) or _has_float32(inner):
                self.functions.append(function)
                results = self._closed(inner, args, layer)
                self.functions.pop()
                return results
        if name in ("scan", "while", "cond"):
            results = self._control(eqn, args, layer)
            if results is not None:
                return results
        if name in VIEWS and all(arg.elements is not None for arg in args):
            views = VIEWS[name](*(arg.elements for arg in args), **eqn.params)
            every = views if isinstance(views, list) else [views]
            outs = self._bind(eqn, args)
            found = [Value(o, args[0].place, v) for o, v in zip(outs, every, strict=True)]
            self._record_step(partial(_bind, eqn), eqn, args, found, is_view=True)
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
        if name == "lt":
            self.bound = args[1].array
        outs = self._bind(eqn, args)
        computed = None
        if self.recording:
            self._add_constants(args)
            if len(outs) == 1 and all(self._is_fixed(arg) for arg in args):
                moved, computed = self._follow(eqn, args, outs[0])
                if moved is not None:
                    self._record_step(partial(_bind, eqn), eqn, args, [moved], is_view=True)
                    return [moved]
        inputs = tuple(dict.fromkeys(self._place(arg) for arg in args if not _is_number(arg)))
        numbers = tuple(float(arg.array) for arg in args if _is_number(arg))
        first = len(self.ops)
        shapes = [np.shape(arg.array) for arg in args]
        places = [self._add(out, name, inputs, numbers, eqn, layer, shapes=shapes) for out in outs]
        found = [
            Value(out, place, computed=computed) for out, place in zip(outs, places, strict=True)
        ]
        self._record_step(partial(_bind, eqn), eqn, args, found)
        if self.recording and any(arg.matrix is not None for arg in args):
            self._record_uses(eqn, args, first)
        if self.until is not None and len(self.ops) > self.until:
            raise Enough
        return found

    def _follow(
        self, eqn: JaxprEqn, args: list[Value], out: PyTree
    ) -> tuple[Value | None, np.ndarray | None]:
        """Follow elements through a primitive on parameters alone.

        Either it only moves them: then return its result, a view like any other. Or it may compute one
        value from each, as weight norm does: then return the elements of the result as a matrix.
        """
        name = eqn.primitive.name
        known = [arg for arg in args if arg.matrix is not None]
        if not known or name in UNORDERED or getattr(out, "dtype", None) != np.float64:
            return None, None
        if all(arg.computed is None for arg in known):
            tagged = [arg if arg.elements is None else Value(tags(arg.elements)) for arg in args]
            matrices = [arg.matrix for arg in known if arg.matrix is not None]
            numbers = np.concatenate([np.ravel(matrix) for matrix in matrices])
            moved = untag(np.asarray(self._bind(eqn, tagged)[0]), numbers)
            if moved is not None:
                return Value(out, known[0].place, moved), None
        if name in VIEWS and len(known) == len(args):
            return None, VIEWS[name](*(arg.matrix for arg in args), **eqn.params)
        for arg in sorted(known, key=lambda arg: arg.computed is None):
            matrix = arg.matrix
            if matrix is not None and np.shape(arg.array) == np.shape(out) and _is_unique(matrix):
                return None, matrix
        return None, None

    def _is_fixed(self, value: Value) -> bool:
        """True for a value that no input of the model leads to."""
        return value.place < 0 or self.is_fixed[value.place]

    def _control(self, eqn: JaxprEqn, args: list[Value], layer: str) -> list[Value] | None:
        """Evaluate a loop or a branch; None if JAX may do it as it stands."""
        name, is_traced = eqn.primitive.name, _is_traced(args)
        if name == "cond" and not _is_traced(args[:1]):
            branches = eqn.params["branches"]
            chosen = int(np.clip(int(args[0].array), 0, len(branches) - 1))
            return self._closed(branches[chosen], args[1:], layer)
        if name == "scan" and not is_traced and eqn.params["length"] <= MOST_ITERATIONS:
            return self._scan(eqn, args, layer)
        if name == "while" and not is_traced:
            return self._while(eqn, args, layer)
        if not _has_float32(eqn.params) and not _draws(eqn):
            return None
        inner = Interpreter(False, nudge=self.nudge, uniform=self.uniform)

        def evaluate(jaxpr: Any, arrays: Sequence[PyTree]) -> list[PyTree]:
            return [v.array for v in inner._closed(jaxpr, [Value(a) for a in arrays], layer)]

        return [Value(out) for out in retrace(eqn, [arg.array for arg in args], evaluate)]

    def _while(self, eqn: JaxprEqn, args: list[Value], layer: str) -> list[Value]:
        p = eqn.params
        test, body = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]
        carry = args[body:]
        while bool(self._closed(p["cond_jaxpr"], [*args[:test], *carry], layer)[0].array):
            carry = self._closed(p["body_jaxpr"], [*args[test:body], *carry], layer)
        return carry

    def _closed(self, inner: Any, args: list[Value], layer: str) -> list[Value]:
        if isinstance(inner, ClosedJaxpr):
            return self.evaluate(inner.jaxpr, self.constants(inner.consts), args, layer)
        return self.evaluate(inner, [], args, layer)

    def constants(self, consts: Sequence[PyTree]) -> list[Value]:
        """Return the constants of a function in float64; but for single numbers they are nudged."""
        found = []
        for const in consts:
            value, dtype = Value(_lifted(const)), getattr(const, "dtype", None)
            if dtype in NARROW and np.ndim(const):
                value = Value(nudged(value.array, self.nudge), dtype=str(dtype))
            found.append(value)
        return found

    def _scan(self, eqn: JaxprEqn, args: list[Value], layer: str) -> list[Value]:
        """Evaluate a scan iteration by iteration, so that stacked layers are told apart."""
        p = eqn.params
        fixed, count = scan_counts(p)
        consts, carry, stacked = args[:fixed], args[fixed : fixed + count], args[fixed + count :]
        rows: list[list[Value]] = [[] for _ in eqn.outvars[count:]]
        order = range(p["length"])
        for index in reversed(order) if p["reverse"] else order:
            slices = [self._row(value, index) for value in stacked]
            outs = self._closed(p["jaxpr"], [*consts, *carry, *slices], layer)
            carry = outs[:count]
            for row, out in zip(rows, outs[count:], strict=True):
                row.append(out)
        results = []
        for row in rows:
            row = row[::-1] if p["reverse"] else row
            stack = jnp.stack if _is_traced(row) else np.stack
            array = stack([value.array for value in row])
            places = tuple(dict.fromkeys(value.place for value in row))
            value = Value(array, self._add(array, "stack", places, (), eqn, layer))
            self._record_step(lambda rows, _: [jnp.stack(rows)], None, row, [value])
            results.append(value)
        return [*carry, *results]

    def _row(self, value: Value, index: int) -> Value:
        elements = None if value.elements is None else value.elements[index]
        array = value.array[index]
        if elements is not None:
            row = Value(array, value.place, elements)
        else:
            row = Value(array, self._add(array, "row", (self._place(value),)))
        self._record_step(lambda x, _: [x[0][index]], None, [value], [row], elements is not None)
        return row

    def _draw(self, eqn: JaxprEqn, function: str, args: list[Value], layer: str) -> list[Value]:
        """Return constants in place of random numbers, and note the draw."""
        kind, constant = RANDOM[function]
        constant = self.uniform if kind == "uniform" else constant
        drawn: Any = eqn.outvars[0].aval
        out = jnp.full(drawn.shape, constant, _wide(drawn.dtype))
        if not self.recording:
            return [Value(out)]
        number = self._probability(eqn, args) if kind == "bernoulli" else 0.5
        self.draws.append(Draw(kind, number, out.size, len(self.ops)))
        value = Value(out, self._add(out, function, (), (number,), eqn, layer))
        self._record_step(lambda *_: [out], None, [], [value])
        return [value]

    def _probability(self, eqn: JaxprEqn, args: list[Value]) -> float:
        """Return the probability of a Bernoulli: the number that it compares uniform ones with.

        It need not be an argument: a scan of Flax computes ahead what does not depend on a key.
        """
        probe = Interpreter(False)
        probe._closed(eqn.params["jaxpr"], [Value(arg.array) for arg in args], "")
        return float(np.max(probe.bound))

    def _bind(self, eqn: JaxprEqn, args: list[Value]) -> list[PyTree]:
        return _bind(eqn, [arg.array for arg in args], {})

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
        if not self.recording:
            return
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
                tuple(at for at, arg in enumerate(args) if _is_number(arg)),
            )
        )

    def _record_uses(self, eqn: JaxprEqn, args: list[Value], op: int) -> None:
        name = eqn.primitive.name

        def add(role: Role, elements: np.ndarray, data: Value | None, *axes: int) -> None:
            at = data.place if data is not None and data.place >= 0 else None
            self.uses.append(Use(role, elements, op, at, axes))

        if name == "dot_general":
            contracting, batch = eqn.params["dimension_numbers"]
            for side in (0, 1):
                elements = args[side].matrix
                if elements is None:
                    continue
                free = [
                    a for a in range(elements.ndim) if a not in (*contracting[side], *batch[side])
                ]
                order = (*batch[side], *free, *contracting[side])
                inputs = int(np.prod([elements.shape[a] for a in contracting[side]]))
                matrix = np.transpose(elements, order).reshape(-1, inputs)
                add(Role.dot, matrix, args[1 - side], *contracting[1 - side])
        elif name == "conv_general_dilated" and args[1].matrix is not None:
            numbers = eqn.params["dimension_numbers"]
            kernel = np.transpose(args[1].matrix, numbers.rhs_spec)
            add(Role.conv, kernel, args[0], numbers.lhs_spec[1])
        elif name == "gather" and args[0].matrix is not None:
            table = args[0].matrix
            add(Role.lookup, table.reshape(table.shape[0], -1), None)
        else:
            role = Role.scale if name in SCALES else Role.shift if name in SHIFTS else Role.other
            data = next((arg for arg in args if arg.elements is None), None)
            if role is Role.shift and (data is None or _is_number(data)):
                role = Role.other  # a number is added, such as a norm's epsilon
            for arg in args:
                if arg.elements is not None:
                    add(role, _once(arg.elements), data)

    def _place(self, value: Value) -> int:
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
        if not self.recording:
            return -1
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
                _source(eqn) if eqn else "",
                name in MOVES,
                fingerprint(np.asarray(array)) if is_float else None,
                ".".join(filter(None, self.functions)),
                find_window(name, eqn.params, shapes, array.shape) if eqn else None,
            )
        )
        if len(self.ops) - 1 in self.keep:
            self.kept[len(self.ops) - 1] = np.asarray(array)
        return len(self.ops) - 1


# Arguments of primitives that are kept in a record.
SETTINGS = {
    "window_strides", "padding", "lhs_dilation", "rhs_dilation", "feature_group_count", "window_dimensions",
    "dimension_numbers", "axes", "axis", "dimensions", "exponent", "y", "new_sizes", "permutation",
}  # fmt: skip


def _is_traced(values: Sequence[Value]) -> bool:
    """True if a value is not known, since JAX traces or differentiates a function of it."""
    return any(isinstance(value.array, jax.core.Tracer) for value in values)


def _is_number(value: Value) -> bool:
    """True for a scalar that no operation has computed."""
    array = value.array
    return (
        value.place < 0
        and not isinstance(array, jax.core.Tracer)
        and np.ndim(array) == 0
        and not jnp.issubdtype(getattr(array, "dtype", np.float64), jax.dtypes.prng_key)
    )


def _bind(eqn: JaxprEqn, arrays: list[PyTree], changed: Mapping[str, Any]) -> list[PyTree]:
    """Evaluate a primitive in float64, with some of its parameters changed."""
    params = {key: _lifted_parameter(key, value) for key, value in eqn.params.items()}
    params |= changed
    if eqn.primitive.name == "convert_element_type":
        # Of numbers that JAX has typed weakly, too.
        arrays = [a if isinstance(a, np.ndarray) else jnp.asarray(a) for a in arrays]
    else:
        arrays = _matched(eqn, arrays)
    if (results := substitute(eqn.primitive.name, arrays, params)) is not None:
        return results
    bound = eqn.primitive.get_bind_params(params)
    subfuns, bound = bound if isinstance(bound, tuple) else ((), bound)
    out = eqn.primitive.bind(*subfuns, *arrays, **bound)
    return list(out) if eqn.primitive.multiple_results else [out]


# Frames of these libraries are not the user's code.
for library in (flax.__path__[0], str(Path(__file__).parent)):
    source_info_util.register_exclusion(library)

NARROW = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(jnp.bfloat16))


def _wide(dtype: PyTree) -> PyTree:
    return np.dtype(np.float64) if dtype in NARROW else dtype


def _lifted(array: PyTree) -> PyTree:
    """A constant, in float64 if it is a narrower float; a number as it was written: 1e-5, not 9.99e-6."""
    if getattr(array, "dtype", None) not in NARROW:
        return array
    wide = np.asarray(array)
    if wide.ndim == 0 and wide.dtype != jnp.bfloat16:
        number: Any = wide[()]
        return np.float64(np.format_float_scientific(number))
    return wide.astype(np.float64)


def _lifted_parameter(key: str, value: object) -> object:
    """An argument of a primitive, with float64 in place of a narrower float."""
    if key in ("new_dtype", "dtype", "preferred_element_type", "out_dtype") and value in NARROW:
        return np.dtype(np.float64)
    return value


def _matched(eqn: JaxprEqn, arrays: list[PyTree]) -> list[PyTree]:
    """Operands in one dtype where the primitive had one: only some of them may have been lifted."""
    dtypes = {getattr(atom.aval, "dtype", None) for atom in eqn.invars}
    if len(dtypes) == 1 and dtypes <= set(NARROW):
        return [
            a if getattr(a, "dtype", None) == np.float64 else jnp.asarray(a, np.float64)
            for a in arrays
        ]
    return [
        jnp.asarray(a, np.float64)
        if getattr(atom.aval, "dtype", None) in NARROW and getattr(a, "dtype", None) != np.float64
        else a
        for a, atom in zip(arrays, eqn.invars, strict=True)
    ]


def _has_float32(inner: Any) -> bool:
    """True if a function forces a narrow float, whatever its inputs."""
    return bool(re.search(r"\b(f32|f16|bf16)\[", str(inner)))


def _draws(eqn: JaxprEqn) -> bool:
    return bool(re.search("random|threefry", str(eqn.params)))


def _is_unique(elements: np.ndarray) -> bool:
    return bool((elements >= 0).all()) and len(np.unique(elements)) == elements.size


def _once(elements: np.ndarray) -> np.ndarray:
    """Return each element once, in order of appearance, flattened."""
    flat = elements.ravel()
    _, first = np.unique(flat, return_index=True)
    return flat[np.sort(first)]


def layer_of(outer: str, stack: str, root: str) -> str:
    """Path of a module below another one, without the root and the names of methods and transformations."""
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


def _source(eqn: JaxprEqn) -> str:
    """Return file and line of the user's code."""
    summary = source_info_util.summarize(eqn.source_info)
    found = re.match(r".*?([^/]+\.py):(\d+)", summary)
    return f"{found[1]}:{found[2]}" if found else ""


def record(
    function: Callable[..., PyTree],
    arrays: Mapping[str, PyTree],
    inputs: Mapping[str, PyTree],
    keep: Collection[int] = (),
    until: int | None = None,
    nudge: float = 0.0,
    uniform: float = MIDDLE,
    root: str = "",
) -> tuple[Interpreter, PyTree, PyTree]:
    """Record `function(arrays, inputs)`.

    Returns the interpreter, the tree of its results, and the tree of their places; None for both if it
    ends after place `until`.
    """
    interpreter = Interpreter(True, keep, until, nudge, uniform, root)
    closed, shape = traced(function, dict(arrays), dict(inputs))
    # A tree's leaves are in the order of sorted keys; elements are numbered in the order of `arrays`.
    values = {name: interpreter.source(a, "parameter", name) for name, a in arrays.items()}
    given = {name: interpreter.source(a, "input", name) for name, a in inputs.items()}
    args = jax.tree.leaves((values, given), is_leaf=lambda leaf: isinstance(leaf, Value))
    consts = interpreter.constants(closed.consts)
    try:
        results = interpreter.evaluate(closed.jaxpr, consts, args)
    except Enough:
        return interpreter, None, None
    tree = jax.tree.structure(shape)
    places = [interpreter._place(result) for result in results]
    return (
        interpreter,
        jax.tree.unflatten(tree, [result.array for result in results]),
        jax.tree.unflatten(tree, places),
    )


def traced(
    function: Callable[..., PyTree], arrays: PyTree, inputs: PyTree
) -> tuple[ClosedJaxpr, PyTree]:
    """Return the jaxpr of `function(arrays, inputs)`, and the shapes of its results.

    A model that mixes float64 with its own float32, such as the carry of a scan, is traced in float32: the
    interpreter lifts it.
    """
    trace = jax.make_jaxpr(function, return_shape=True)
    try:
        return trace(arrays, inputs)
    except TypeError:
        return trace(narrowed(arrays), narrowed(inputs))


def lifted(
    function: Callable[..., PyTree], nudge: float = 0.0, uniform: float = MIDDLE
) -> Callable[..., PyTree]:
    """Return `function(arrays, inputs)` in float64 throughout, with constants in place of random numbers."""

    def call(arrays: PyTree, inputs: PyTree) -> PyTree:
        closed, shape = traced(function, arrays, inputs)
        interpreter = Interpreter(False, nudge=nudge, uniform=uniform)
        args = [Value(leaf) for leaf in jax.tree.leaves((arrays, inputs))]
        consts = interpreter.constants(closed.consts)
        results = interpreter.evaluate(closed.jaxpr, consts, args)
        return jax.tree.unflatten(jax.tree.structure(shape), [r.array for r in results])

    return call


def by_primitives(function: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """Return a function that is evaluated one primitive at a time, mostly by NumPy.

    To compile a model with its gradients for a few calls would take by far the most of their time.
    """
    traced: dict[object, tuple[ClosedJaxpr, PyTree]] = {}

    def call(*args: PyTree) -> PyTree:
        leaves, tree = jax.tree.flatten(args)
        key = (
            tree,
            *((np.shape(leaf), str(getattr(leaf, "dtype", type(leaf)))) for leaf in leaves),
        )
        if key not in traced:
            closed, shape = jax.make_jaxpr(function, return_shape=True)(*args)
            traced[key] = closed, jax.tree.structure(shape)
        closed, structure = traced[key]
        values = [Value(_by_numpy(leaf)) for leaf in leaves]
        consts = [Value(_by_numpy(const)) for const in closed.consts]
        results = Interpreter(False).evaluate(closed.jaxpr, consts, values)
        return jax.tree.unflatten(structure, [result.array for result in results])

    return call


def _by_numpy(array: PyTree) -> PyTree:
    is_key = jnp.issubdtype(getattr(array, "dtype", np.float64), jax.dtypes.prng_key)
    return array if is_key else np.asarray(array)
