"""Compiler options of the tests: right gradients where less optimization gives wrong ones."""

import jax
import jax.numpy as jnp
import numpy as np


def loss(weights: tuple[jax.Array, ...], x: jax.Array) -> jax.Array:
    """A convolution, batch norm, relu, and the maximum of windows made by a reshape."""
    kernel, scale, shift = weights
    y = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    mean = y.mean((0, 1, 2))
    variance = ((y - mean) ** 2).mean((0, 1, 2))
    y = jax.nn.relu((y - mean) * jax.lax.rsqrt(variance + 1e-5) * scale + shift)
    n, height, width, channels = y.shape
    y = y.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))
    return (y * jnp.linspace(0.5, 1.5, y.size).reshape(y.shape)).sum()


def test_gradients_of_a_maximum_over_windows_are_those_of_operations_one_by_one():
    random = np.random.default_rng(0)
    with jax.enable_x64(True):
        x = jnp.asarray(random.normal(size=(2, 8, 8, 3)))
        weights = tuple(jnp.asarray(random.normal(size=s)) for s in ((3, 3, 3, 4), (4,), (4,)))
        found = jax.jit(jax.grad(loss))(weights, x)
        with jax.disable_jit():
            expected = jax.grad(loss)(weights, x)
        for one, other in zip(found, expected, strict=True):
            # At level 0 with fused multiply-adds, JAX 0.10 is off by a third.
            assert jnp.abs(one - other).max() < 1e-12 * jnp.abs(other).max()
