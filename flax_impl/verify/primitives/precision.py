"""Primitives of JAX in float64, whatever their program asks for."""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from flax_impl.device import PyTree
from flax_impl.verify.primitives.substitutes import substitute

NARROW = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(jnp.bfloat16))


def wide(dtype: PyTree) -> PyTree:
    """Return float64 for a narrower float, and any other type as it is."""
    return np.dtype(np.float64) if dtype in NARROW else dtype


def lifted(array: PyTree) -> PyTree:
    """Return a constant in float64 if it is a narrower float; a number as it was written: 1e-5."""
    if getattr(array, "dtype", None) not in NARROW:
        return array
    wide = np.asarray(array)
    if wide.ndim == 0 and wide.dtype != jnp.bfloat16:
        number: Any = wide[()]
        return np.float64(np.format_float_scientific(number))
    return wide.astype(np.float64)


def narrowed(tree: PyTree) -> PyTree:
    """Return a tree with float32 in place of float64."""
    return jax.tree.map(lambda leaf: leaf.astype(np.float32) if _is_float64(leaf) else leaf, tree)


def _is_float64(leaf: PyTree) -> bool:
    return getattr(leaf, "dtype", None) == np.float64


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


def has_float32(inner: Any) -> bool:
    """True if a function forces a narrow float, whatever its inputs."""
    return bool(re.search(r"\b(f32|f16|bf16)\[", str(inner)))


def bind(eqn: JaxprEqn, arrays: list[PyTree], changed: Mapping[str, Any]) -> list[PyTree]:
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
