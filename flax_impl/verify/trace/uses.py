"""Uses of parameters in a primitive of JAX."""

from collections.abc import Iterator

import numpy as np
from jax.extend.core import JaxprEqn

from flax_impl.verify.primitives.value import Value, is_number
from pipeline.verify.trace.graph import Role, Use

SCALES, SHIFTS = {"mul", "div"}, {"add", "sub", "add_any"}


def find_uses(eqn: JaxprEqn, args: list[Value], op: int) -> Iterator[Use]:
    """Return the uses of parameters in a primitive, which is place `op` of the record."""
    name = eqn.primitive.name

    def use(role: Role, elements: np.ndarray, data: Value | None, *axes: int) -> Use:
        at = data.place if data is not None and data.place >= 0 else None
        return Use(role, elements, op, at, axes)

    if name == "dot_general":
        contracting, batch = eqn.params["dimension_numbers"]
        for side in (0, 1):
            elements = args[side].matrix
            if elements is None:
                continue
            free = [a for a in range(elements.ndim) if a not in (*contracting[side], *batch[side])]
            order = (*batch[side], *free, *contracting[side])
            inputs = int(np.prod([elements.shape[a] for a in contracting[side]]))
            matrix = np.transpose(elements, order).reshape(-1, inputs)
            yield use(Role.dot, matrix, args[1 - side], *contracting[1 - side])
    elif name == "conv_general_dilated" and args[1].matrix is not None:
        numbers = eqn.params["dimension_numbers"]
        kernel = np.transpose(args[1].matrix, numbers.rhs_spec)
        yield use(Role.conv, kernel, args[0], numbers.lhs_spec[1])
    elif name == "gather" and args[0].matrix is not None:
        table = args[0].matrix
        yield use(Role.lookup, table.reshape(table.shape[0], -1), None)
    else:
        role = Role.scale if name in SCALES else Role.shift if name in SHIFTS else Role.other
        data = next((arg for arg in args if arg.elements is None), None)
        if role is Role.shift and (data is None or is_number(data)):
            role = Role.other  # a number is added, such as a norm's epsilon
        for arg in args:
            if arg.elements is not None:
                yield use(role, _once(arg.elements), data)


def _once(elements: np.ndarray) -> np.ndarray:
    """Return each element once, in order of appearance, flattened."""
    flat = elements.ravel()
    _, first = np.unique(flat, return_index=True)
    return flat[np.sort(first)]
