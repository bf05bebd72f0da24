"""Arrays of any framework as NumPy arrays by name, without importing one."""

from collections.abc import Callable, Iterable, Iterator
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


def is_module(value: object) -> bool:
    """True for a torch module, or whatever names its parameters like one."""
    return callable(getattr(value, "named_parameters", None)) and not isinstance(value, type)


def weights_of(value: object) -> dict[str, Recorded]:
    """Return the parameters and buffers of a model, or of its state: floating-point arrays by name.

    Raises:
        UserError: there are none in it.
    """
    if is_module(value):
        found = convert([*_parameters(value), *_buffers(value)])
    elif hasattr(value, "opt_state"):  # a TrainState: its optimizer's arrays are no weights
        fields = {name: item for name, item in vars(value).items() if name != "opt_state"}
        found = convert(leaves(fields, _is_array))
    else:
        found = convert(leaves(value, _is_array))
    weights = {name: one for name, one in found.items() if one.array.dtype.kind in "fc"}
    if not weights:
        raise UserError(
            "record", type(value).__name__, problem="it holds no weights", hint=f"Give {EXAMPLES}."
        )
    return weights


def gradients_of(module: object) -> dict[str, Recorded]:
    """Return the gradients of a torch module's parameters; those that are None are left out."""
    gradients = ((name, getattr(p, "grad", None)) for name, p in _parameters(module))
    return convert((name, gradient) for name, gradient in gradients if gradient is not None)


def arrays_of(value: object, name: str = "") -> dict[str, Recorded]:
    """Return the arrays and numbers in anything nested, by their paths; a single one is called `name`."""
    if value is None:
        return {}
    found = convert(leaves(value, _has_values))
    return (
        {name or path: one for path, one in found.items()} if list(found) == ["output"] else found
    )


def convert(named: Iterable[tuple[str, object]]) -> dict[str, Recorded]:
    """Copy arrays into NumPy; what has no numbers, such as a random key, is left out."""
    found = {}
    for name, value in named:
        recorded = to_numpy(value)
        if recorded is not None:
            found[name] = recorded
    return found


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
        dtype = array.dtype.name
        array = array.astype(np.float32)
    if array.dtype.kind not in "fciub":
        return None
    return Recorded(array, dtype or array.dtype.name)


def name_gradients(given: object, weights: dict[str, Recorded]) -> dict[str, Recorded]:
    """Return gradients, nested as the weights are, by the names of their weights.

    The names are the same, or shorter by a common beginning; or the gradients are a list in the order of
    the weights.

    Raises:
        UserError: none of these.
    """
    found = convert(leaves(given, _is_array))  # no numbers: those are settings of a module's class
    gradients = {name: one for name, one in found.items() if one.array.dtype.kind in "fc"}
    for prefix in _prefixes(weights):
        named = {f"{prefix}{name}": one for name, one in gradients.items()}
        if all(name in weights and _fits(one, weights[name]) for name, one in named.items()):
            return named
    # A torch module names its buffers last.
    pairs = list(zip(weights, gradients.values(), strict=False))
    is_list = all(name.isdecimal() for name in gradients) and len(gradients) <= len(weights)
    if is_list and all(_fits(one, weights[name]) for name, one in pairs):
        return dict(pairs)
    problem = (
        f"{len(gradients)} gradients ({_some(gradients)}) do not belong to the "
        f"{len(weights)} weights ({_some(weights)})"
    )
    raise UserError(
        "gradients", "…", problem=problem, hint="Give them as nested as the weights are."
    )


def _fits(gradient: Recorded, weight: Recorded) -> bool:
    return gradient.array.shape == weight.array.shape


def _some(arrays: dict[str, Recorded]) -> str:
    shown = [f"{name} {list(one.array.shape)}" for name, one in list(arrays.items())[:3]]
    return ", ".join([*shown, "…"] if len(arrays) > 3 else shown) or "none"


def _prefixes(names: Iterable[str]) -> Iterator[str]:
    """Yield nothing, and each beginning of a dotted name."""
    parts = [name.split(".") for name in names]
    found = {".".join(part[:count]) + "." for part in parts for count in range(1, len(part))}
    yield from ("", *sorted(found))


def _has_values(value: object) -> bool:
    return isinstance(value, int | float) or _is_array(value)


def _is_array(value: object) -> bool:
    """True for arrays and tensors; a description of an array has no values."""
    is_array = hasattr(value, "shape") and hasattr(value, "dtype")
    return is_array and (hasattr(value, "__array__") or hasattr(value, "detach"))


def _parameters(module: Any) -> Iterable[tuple[str, object]]:
    return module.named_parameters()


def _buffers(module: Any) -> Iterable[tuple[str, object]]:
    named: Callable[[], Iterable[tuple[str, object]]] = getattr(module, "named_buffers", list)
    return named()
