"""Record of the operations that a JAX function has executed."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from flax_impl.device import PyTree
from flax_impl.verify.primitives.origin import source_line
from flax_impl.verify.primitives.substitutes import VIEWS
from flax_impl.verify.primitives.value import Value, is_number
from flax_impl.verify.trace.replay import Operation, find_window
from pipeline.verify.replay.program import Operand, Program
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


class Record:
    """Operations in the order of execution, and the program that runs them again.

    The place of a result is its index in `ops`.
    """

    def __init__(self, keep: Collection[int], functions: Sequence[str]) -> None:
        """Take the places whose arrays are kept, and the names of the functions being evaluated."""
        self.keep, self.functions = keep, functions
        self.kept: dict[int, np.ndarray] = {}
        self.ops: list[Op] = []
        self.uses: list[Use] = []
        self.draws: list[Draw] = []
        self.program: Program[PyTree] = Program()
        self._elements = 0  # numbered so far
        self._fixed: list[bool] = []  # of a result: no input of the model leads to it

    def source(self, array: PyTree, name: str, layer: str = "") -> Value:
        """Introduce an input, parameter, buffer or constant."""
        elements = None
        if name in ("parameter", "buffer"):
            size = int(np.prod(array.shape))
            elements = np.arange(self._elements, self._elements + size).reshape(array.shape)
            self._elements += size
        value = Value(array, -1, elements, register=self.program.add_register())
        kind = "input" if name == "input" else "parameter"
        self.program.sources[kind, layer] = value.register
        value.place = self.add(array, name, layer=layer, register=value.register)
        return value

    def place(self, value: Value) -> int:
        """Return the place of a value's result; an unknown one is a constant."""
        if value.place < 0:
            self.add_constants([value])
            value.place = self.add(
                value.array, "constant", register=value.register, dtype=value.dtype
            )
        return value.place

    def is_fixed(self, value: Value) -> bool:
        """True for a value that no input of the model leads to."""
        return value.place < 0 or self._fixed[value.place]

    def add(
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
        """Add a result, and return its place; `inputs` are the places of its operands."""
        if register >= 0:
            self.program.registers[len(self.ops)] = register
        self._fixed.append(name != "input" and all(self._fixed[place] for place in inputs))
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

    def add_constants(self, args: list[Value]) -> None:
        """Give registers to values that no step has made."""
        for arg in args:
            if arg.register < 0:
                arg.register = self.program.add_register()
                self.program.constants[arg.register] = arg.array

    def add_step(
        self,
        call: Callable[[list[PyTree], Mapping[str, Any]], Sequence[PyTree]],
        eqn: JaxprEqn | None,
        args: list[Value],
        results: list[Value],
        is_view: bool = False,
    ) -> None:
        """Add an operation to the program, to be run again."""
        self.add_constants(args)
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
