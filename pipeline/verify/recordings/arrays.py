"""Arrays of any framework as NumPy arrays by name, without importing one."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import UserError
from pipeline.verify.sides.outputs import leaves

EXAMPLES = (
    "a torch module, a dictionary of arrays, a TrainState, nnx.state(model), an Equinox module"
)


@dataclass(frozen=True)
class Recorded:
    """An array as NumPy has it, and its type before: NumPy has no bfloat16."""

    array: np.ndarray
    dtype: str

    @property
    def is_float(self) -> bool:
        """True of real and complex numbers, False of integers."""
        return self.array.dtype.kind in "fc"


def is_module(value: object) -> bool:
    """True for a torch module, or whatever names its parameters like one."""
    return callable(getattr(value, "named_parameters", None)) and not isinstance(value, type)


def weights_of(value: Any) -> dict[str, Recorded]:
    """Return the parameters and buffers of a model, or of its state: floating-point arrays by name.

    Raises:
        UserError: there are none in it.
    """
    if is_module(value):
        named = [*value.named_parameters(), *getattr(value, "named_buffers", list)()]
    elif hasattr(value, "opt_state"):  # a TrainState: its optimizer's arrays are no weights
        named = leaves({n: v for n, v in vars(value).items() if n != "opt_state"}, _is_array)
    else:
        named = leaves(value, _is_array)
    weights = {name: one for name, one in convert(named).items() if one.is_float}
    if not weights:
        problem, hint = "it holds no weights", f"Give {EXAMPLES}."
        raise UserError("record", type(value).__name__, problem=problem, hint=hint)
    return weights


def gradients_of(module: Any) -> dict[str, Recorded]:
    """Return the gradients of a torch module's parameters; those that are None are left out."""
    gradients = ((name, getattr(p, "grad", None)) for name, p in module.named_parameters())
    return convert((name, gradient) for name, gradient in gradients if gradient is not None)


def arrays_of(value: object, name: str) -> dict[str, Recorded]:
    """Return the arrays and numbers in anything nested, by their paths; a single one is called `name`."""
    found = leaves(value, lambda one: isinstance(one, int | float) or _is_array(one))
    return convert((name if path == "output" else path, one) for path, one in found)


def convert(named: Iterable[tuple[str, object]]) -> dict[str, Recorded]:
    """Copy arrays into NumPy; what has no numbers, such as a random key, is left out."""
    found = {name: to_numpy(value) for name, value in named}
    return {name: recorded for name, recorded in found.items() if recorded is not None}


def to_numpy(value: Any) -> Recorded | None:
    """Copy an array, a tensor or a number; None if NumPy cannot hold it."""
    if hasattr(value, "full_tensor"):  # a tensor sharded over several processes
        value = value.full_tensor()
    dtype = str(getattr(value, "dtype", "")).removeprefix("torch.")
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        if getattr(value, "is_sparse", False):
            value = value.to_dense()
        value = value.float() if dtype == "bfloat16" or dtype.startswith("float8") else value
        value = value.numpy()
    try:
        array = np.array(value)
    except (TypeError, ValueError):  # a key of JAX's random numbers
        return None
    if array.dtype.kind == "V":  # bfloat16 and float8 of JAX
        dtype, array = array.dtype.name, array.astype(np.float32)
    return Recorded(array, dtype or array.dtype.name) if array.dtype.kind in "fciub" else None


def name_gradients(given: object, weights: dict[str, Recorded]) -> dict[str, Recorded]:
    """Return gradients, nested as the weights are, by the names of their weights.

    The names are the same, or shorter by a common beginning; or the gradients are a list in the order of
    the weights.

    Raises:
        UserError: none of these.
    """
    found = convert(leaves(given, _is_array))  # no numbers: those are settings of a module's class
    gradients = {name: one for name, one in found.items() if one.is_float}
    parts = [name.split(".") for name in weights]
    prefixes = {".".join(part[:count]) + "." for part in parts for count in range(1, len(part))}
    choices = [
        {f"{prefix}{n}": g for n, g in gradients.items()} for prefix in ("", *sorted(prefixes))
    ]
    if all(map(str.isdecimal, gradients)) and len(gradients) <= len(weights):
        # A torch module names its buffers last.
        choices.append(dict(zip(weights, gradients.values(), strict=False)))
    for named in choices:
        if all(n in weights and g.array.shape == weights[n].array.shape for n, g in named.items()):
            return named
    problem = (
        f"{len(gradients)} gradients ({_some(gradients)}) do not belong to the "
        f"{len(weights)} weights ({_some(weights)})"
    )
    hint = "Give them as nested as the weights are."
    raise UserError("gradients", "…", problem=problem, hint=hint)


def _some(arrays: dict[str, Recorded]) -> str:
    shown = [f"{name} {list(one.array.shape)}" for name, one in list(arrays.items())[:3]]
    return ", ".join([*shown, "…"] if len(arrays) > 3 else shown) or "none"


def _is_array(value: object) -> bool:
    """True for arrays and tensors; a description of an array has no values."""
    is_array = hasattr(value, "shape") and hasattr(value, "dtype")
    return is_array and (hasattr(value, "__array__") or hasattr(value, "detach"))
