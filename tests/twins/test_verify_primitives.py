"""JAX's primitives carried out by NumPy, against JAX itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.scipy import special

from flax_impl.verify.primitives.evaluation import by_primitives, lifted

DRAW = np.random.default_rng(0)
FLOATS = {
    "x": DRAW.standard_normal((2, 3, 4, 5)),
    "y": DRAW.standard_normal((2, 3, 4, 5)),
    "k": DRAW.standard_normal((6, 3, 2, 3)),  # a kernel
    "t": DRAW.standard_normal((7, 4)),  # a table
}
N, M = DRAW.integers(-9, 9, (3, 4)), DRAW.integers(1, 9, (3, 4))
IDS = DRAW.integers(0, 7, (2, 5))
PAD = [(0, 0, 0), (1, 2, 0), (0, 1, 2), (0, 0, 1)]
CUT = [(0, 0, 0), (0, 0, 0), (-1, 0, 0), (0, -2, 0)]


def conv(x, kernel, strides=(1, 1), padding=((0, 0), (0, 0)), **more):
    return lax.conv_general_dilated(x, kernel, strides, padding, **more)


# Functions of floats; their gradients are compared, too.
SMOOTH = {
    "arithmetic": lambda x, y, **_: (x + y, x - 2, x * y, x / y, -x, abs(x), x**3 + x**-2),
    "choice": lambda x, y, **_: (jnp.maximum(x, y), jnp.clip(x, -1, 0.5), jnp.where(x > 0, x, y)),
    "exponents": lambda x, y, **_: (jnp.exp(x), jnp.exp2(x), jnp.expm1(x), jnp.power(x * x, y)),
    "logarithms": lambda x, **_: (jnp.log(x * x), jnp.log1p(x * x), jax.nn.logsumexp(x, 1)),
    "roots": lambda x, **_: (jnp.sqrt(x * x), lax.rsqrt(x * x), jnp.cbrt(x)),
    "angles": lambda x, **_: (jnp.sin(x), jnp.cos(x), jnp.tan(x), jnp.tanh(x)),
    "errors": lambda x, **_: (special.erf(x), special.erfc(x), special.erfinv(x / 9)),
    "activations": lambda x, **_: (jax.nn.sigmoid(x), jax.nn.softmax(x), jax.nn.gelu(x)),
    "reductions": lambda x, **_: (x.sum((1, 3)), x.max(2), x.min(0), x.prod((0, 1))),
    "running": lambda x, **_: (jnp.cumsum(x, 1), jnp.cumprod(x, 3), lax.cummax(x, 1)),
    "running backwards": lambda x, **_: (lax.cumsum(x, 2, reverse=True), lax.cummin(x, 1)),
    "shapes": lambda x, **_: (x.transpose(2, 0, 3, 1), x.reshape(6, -1), jnp.flip(x, (0, 2))),
    "reshape of other axes": lambda x, **_: lax.reshape(x, (15, 8), (3, 1, 0, 2)),
    "parts": lambda x, y, **_: (x[:, ::2, 1:3], jnp.concatenate([x, y], 2), *jnp.split(x, 3, 1)),
    "padding": lambda x, **_: (lax.pad(x, 0.5, PAD), lax.pad(x, 0.0, CUT)),
    "part at a computed place": lambda x, **_: lax.dynamic_slice(
        x, (N[0, 0], 1, M[0, 0], 0), (1, 2, 3, 4)
    ),
    "update at a computed place": lambda x, y, **_: lax.dynamic_update_slice(
        x, y[:1, :2], (M[0, 0], 0, 0, 0)
    ),
    "rows": lambda t, **_: (t[IDS], jnp.take(t, IDS, axis=0, mode="clip"), t[:, IDS % 4]),
    "rows outside": lambda t, **_: (t[IDS + 3], jnp.take(t, IDS + 3, axis=0, fill_value=2.0)),
    "places of rows": lambda t, **_: jnp.take_along_axis(t, IDS[:, :4] % 7, axis=0),
    "products": lambda x, y, **_: (x[0, 0] @ y[0, 0].T, jnp.einsum("bhqd,bhkd->bhqk", x, y)),
    "products over axes": lambda x, y, **_: (
        jnp.einsum("abcd,aecd->be", x, x),
        jnp.einsum("abcd,aefd->fbec", x, y),
    ),
    "conv": lambda x, k, **_: (
        conv(x, k),
        conv(x, k, (2, 1), ((1, 0), (3, 1))),
        conv(x, k, rhs_dilation=(2, 1)),
        conv(x, k, padding=((1, 1), (-1, 0)), lhs_dilation=(2, 3)),
    ),
    "conv in groups": lambda x, y, k, **_: (
        conv(x, k[:, :1], feature_group_count=3),
        conv(jnp.concatenate([x, y[:, :1]], 1), k[:, :2], (1, 2), feature_group_count=2),
    ),
    "conv with channels last": lambda x, k, **_: conv(
        x.transpose(0, 2, 3, 1),
        k.transpose(2, 3, 1, 0),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    ),
    "pooling": lambda x, **_: lax.reduce_window(
        x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 1, 2), "VALID"
    ),
    "loops": lambda x, y, **_: (
        lax.scan(lambda c, r: (jnp.sin(c) + r, c * 2), x[0, 0], y[0]),
        lax.scan(lambda c, r: (c + r, r * c), x[0, 0], y[0], reverse=True),
        lax.cond(x[0, 0, 0, 0] < 9, jnp.sin, jnp.cos, x),
    ),
}
# Functions of integers and conditions, and of floats in forms that have no gradient.
WHOLE = {
    "integers": lambda **_: (N + M, N - M, N * M, jnp.maximum(N, M), N // M, N % M, -N, abs(N)),
    "powers": lambda **_: (N**2, M**3),
    "overflow": lambda **_: jnp.full(3, 2**31 - 1, jnp.int32) + jnp.arange(3, dtype=jnp.int32),
    "comparisons": lambda x, y, **_: (N == M, N != M, N < M, N <= M, x > y, x >= y),
    "conditions": lambda x, **_: ((N > 0) & (M > 4), (N > 0) ^ (M > 4), jnp.isfinite(x / 0)),
    "bits": lambda **_: (N & M, N | M, N ^ M, ~N, ~(N > 0), N << 2, N >> 1),
    "reductions": lambda **_: ((N > 0).all(0), (N > 8).any(), (N > 0).sum(), N.max(), N.prod(0)),
    "positions": lambda x, **_: (x.argmax(1), x.argmin(), jnp.argmax(jnp.array([1.0, jnp.nan]))),
    "types": lambda x, **_: (x.astype(int), N.astype(bool), (N > 0).astype(float), jnp.arange(3.0)),
    "rounding": lambda x, **_: (jnp.floor(x), jnp.ceil(x), jnp.round(x * 2), jnp.sign(x)),
    "rounding away from zero": lambda x, **_: (lax.round(jnp.round(x * 2) / 2), jnp.trunc(x)),
    "not a number": lambda x, **_: (jnp.maximum(x / 0 * 0, 1), jnp.clip(x / 0, -1, 1)),
    "choice of three": lambda **_: lax.select_n((N % 3).astype(jnp.int32), N, M, N * M),
    "sort": lambda x, **_: (jnp.sort(x, 2), jnp.argsort(N, 1)),
    "while": lambda x, **_: lax.while_loop(lambda c: c.sum() < 99, lambda c: c * c + 1, x[0, 0]),
}


def with_gradients(floats):
    """All values, and the gradients of sums with factors that tell the elements apart."""
    values, gradients = {}, {}
    for name, function in SMOOTH.items():

        def loss(given, function=function):
            outputs = function(**given)
            leaves = [leaf.ravel() for leaf in jax.tree.leaves(outputs)]
            factors = [jnp.sin(1.0 + jnp.arange(leaf.size)) for leaf in leaves]
            return sum(map(jnp.dot, leaves, factors)), outputs

        (_, values[name]), gradients[name] = jax.value_and_grad(loss, has_aux=True)(floats)
    return values, gradients, {name: function(**floats) for name, function in WHOLE.items()}


@pytest.fixture(scope="module")
def both():
    with jax.enable_x64(True):
        return jax.jit(with_gradients)(FLOATS), by_primitives(with_gradients)(FLOATS)


@pytest.mark.parametrize("name", SMOOTH)
def test_a_function_and_its_gradient_are_those_of_jax(both, name):
    for expected, found in zip(both[0][:2], both[1][:2], strict=True):
        leaves = jax.tree.leaves(expected[name]), jax.tree.leaves(found[name])
        for one, other in zip(*leaves, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_allclose(other, one, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", WHOLE)
def test_a_function_of_integers_or_conditions_is_that_of_jax(both, name):
    for one, other in zip(*(jax.tree.leaves(side[2][name]) for side in both), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(other, one, rtol=1e-14)


def in_float32(x):
    narrow = x.astype(jnp.float32)
    total, rows = lax.scan(lambda c, r: (c + jnp.sin(r), r * c), narrow[0], narrow)
    chosen = lax.cond(narrow[0] > 0, lambda a: a * a, jnp.sin, narrow[1])
    last = lax.fori_loop(0, 3, lambda _, a: a * jnp.float32(0.5), narrow[2])
    return total + rows.sum() + chosen + last


def in_float64(x):
    carried = x[0] + np.concatenate([[0], np.cumsum(np.sin(x))])
    return carried[-1] + (x * carried[:-1]).sum() + x[1] ** 2 + x[2] / 8


def test_float32_in_loops_and_branches_is_lifted_while_they_are_differentiated():
    x, step = np.array([0.1, 0.2, 0.3, 0.7]), 1e-6
    with jax.enable_x64(True):
        gradient = jax.grad(lifted(lambda x, _: in_float32(x)))
        found, compiled = by_primitives(gradient)(x, ()), jax.jit(gradient)(x, ())
    moves = np.eye(4) * step
    expected = [(in_float64(x + move) - in_float64(x - move)) / step / 2 for move in moves]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    np.testing.assert_allclose(compiled, found, rtol=1e-14)
