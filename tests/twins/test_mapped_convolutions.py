"""Convolutions of several runs at once on a CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_impl.vectorized import images

RUNS, BATCH = 3, 4
NHWC, NCHW = ("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW")
CASES = {
    "more features after": dict(inputs=1, outputs=5),
    "fewer features after": dict(inputs=6, outputs=2),
    "strides and uneven edges": dict(inputs=5, outputs=5, strides=(2, 3), padding=((0, 2), (1, 0))),
    "a dilated window": dict(inputs=2, outputs=3, window_dilation=(2, 1)),
    "a dilated image": dict(inputs=3, outputs=2, dilation=(2, 1), padding=((1, 1), (2, 2))),
    "channels first": dict(inputs=2, outputs=4, spec=NCHW),
    "groups": dict(inputs=4, outputs=6, groups=2),
    "a cut edge": dict(inputs=2, outputs=3, padding=((-1, 0), (1, -2))),
    "one element": dict(inputs=4, outputs=3, size=(1, 1), strides=(2, 2)),
}


def convolution(
    spec=NHWC, strides=(1, 1), padding=((1, 1), (1, 1)), dilation=(1, 1), window_dilation=(1, 1),
    groups=1, inputs=1, outputs=1, size=(3, 2),
):  # fmt: skip
    """A convolution of a batch by a kernel, and random arguments of several runs."""
    image = {"N": BATCH, "C": inputs, "H": 7, "W": 8}
    kernel = {"O": outputs, "I": inputs // groups, "H": size[0], "W": size[1]}
    draws = np.random.default_rng(0)
    x, kernels = (
        jnp.asarray(draws.normal(size=(RUNS, *(sizes[axis] for axis in axes))))
        for sizes, axes in ((image, spec[0]), (kernel, spec[1]))
    )

    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, strides, padding, dilation, window_dilation, spec, groups
        )

    return convolve, x, kernels


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("small", [0, 10**9], ids=["each by itself", "as a product"])
def test_MappedConvolutions_and_their_gradients_are_those_of_each_run(case, small, monkeypatch):
    monkeypatch.setattr(images, "SMALL", small)
    monkeypatch.setattr(images, "MORE", 10**9)
    with jax.enable_x64(True):
        convolve, x, kernels = convolution(**CASES[case])

        def value_and_gradients(x, kernel):
            y = convolve(x, kernel)
            loss = lambda x, kernel: jnp.sum(jnp.sin(convolve(x, kernel)))  # noqa: E731
            return y, *jax.grad(loss, (0, 1))(x, kernel)

        expected = [value_and_gradients(*own) for own in zip(x, kernels, strict=True)]
        with images.MappedConvolutions("cpu"):
            program = jax.jit(jax.vmap(value_and_gradients)).lower(x, kernels)
        assert f"feature_group_count = {RUNS}" not in program.as_text()
        found = program.compile()(x, kernels)
        for one, runs in zip(found, zip(*expected, strict=True), strict=True):
            np.testing.assert_allclose(one, np.stack(runs), rtol=1e-12, atol=1e-12)


def test_a_gpu_and_kernels_of_all_runs_keep_the_rule_of_jax():
    convolve, x, kernels = convolution(inputs=2, outputs=3)
    with images.MappedConvolutions("gpu"):
        grouped = jax.jit(jax.vmap(convolve)).lower(x, kernels).as_text()
    with images.MappedConvolutions("cpu"):
        shared = jax.jit(jax.vmap(convolve, (0, None))).lower(x, kernels[0]).as_text()
    after = jax.jit(jax.vmap(convolve)).lower(x, kernels).as_text()
    assert f"feature_group_count = {RUNS}" in grouped
    assert shared.count("stablehlo.convolution") == 1
    assert f"feature_group_count = {RUNS}" in after
