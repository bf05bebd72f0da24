"""Elements of parameters, followed through the primitives that move them."""

import numpy as np
from jax.extend.core import JaxprEqn

from flax_impl.device import PyTree
from flax_impl.verify.primitives.precision import bind
from flax_impl.verify.primitives.substitutes import VIEWS
from flax_impl.verify.primitives.value import Value
from pipeline.verify.tags import tags, untag

# Primitives whose result may have the shape of an operand, but not its elements one by one.
UNORDERED = {
    "dot_general", "conv_general_dilated", "gather", "sort", "cumsum", "cumprod", "qr", "svd", "eigh",
    "householder_product", "cholesky", "triangular_solve", "lu", "fft", "cumlogsumexp",
}  # fmt: skip


def follow(eqn: JaxprEqn, args: list[Value], out: PyTree) -> tuple[Value | None, np.ndarray | None]:
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
        moved = untag(np.asarray(bind(eqn, [value.array for value in tagged], {})[0]), numbers)
        if moved is not None:
            return Value(out, known[0].place, moved), None
    if name in VIEWS and len(known) == len(args):
        return None, VIEWS[name](*(arg.matrix for arg in args), **eqn.params)
    for arg in sorted(known, key=lambda arg: arg.computed is None):
        matrix = arg.matrix
        if matrix is not None and np.shape(arg.array) == np.shape(out) and _is_unique(matrix):
            return None, matrix
    return None, None


def _is_unique(elements: np.ndarray) -> bool:
    return bool((elements >= 0).all()) and len(np.unique(elements)) == elements.size
