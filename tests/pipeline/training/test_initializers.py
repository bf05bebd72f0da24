"""Initial weights are a function of seed and name, with the chosen distribution."""

from math import prod, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.models import Initializer
from pipeline.errors import UserError
from pipeline.rng import generator
from pipeline.training.initializers import initial_parameters, truncated_normal

SHAPES = {"a.weight": (4, 3), "a.bias": (4,), "b.weight": (2, 3, 2, 2), "b.bias": (2,)}
KINDS = {"a": "linear", "b": "conv"}
LARGE = {"linear": (200, 300), "conv": (40, 60, 5, 5)}


@given(
    st.integers(0, 2**63 - 1), st.permutations(sorted(SHAPES)), st.sampled_from(list(Initializer))
)
def test_a_parameter_does_not_depend_on_the_order_or_on_other_parameters(seed, order, distribution):
    everything = initial_parameters(SHAPES, KINDS, seed, distribution)
    shuffled = {name: SHAPES[name] for name in order}
    for name, array in initial_parameters(shuffled, KINDS, seed, distribution).items():
        np.testing.assert_array_equal(array, everything[name])
    layer = {name: shape for name, shape in SHAPES.items() if name.startswith("b.")}
    for name, array in initial_parameters(layer, KINDS, seed, distribution).items():
        np.testing.assert_array_equal(array, everything[name])


def test_another_seed_or_name_gives_other_weights():
    kinds = {"a": "linear", "c": "linear"}
    shapes = {"a.weight": (4, 3), "c.weight": (4, 3)}
    first = initial_parameters(shapes, kinds, 0, Initializer.torch)
    second = initial_parameters(shapes, kinds, 1, Initializer.torch)
    assert not (first["a.weight"] == first["c.weight"]).any()
    assert not (first["a.weight"] == second["a.weight"]).any()


# Distribution: fan_in and fan_out to bound and variance.
MOMENTS = {
    Initializer.torch: lambda i, o: (1 / sqrt(i), 1 / (3 * i)),
    Initializer.xavier_uniform: lambda i, o: (sqrt(6 / (i + o)), 2 / (i + o)),
    Initializer.lecun_normal: lambda i, o: (2 / sqrt(i) / 0.87962566, 1 / i),
    Initializer.he_normal: lambda i, o: (2 * sqrt(2 / i) / 0.87962566, 2 / i),
}


@pytest.mark.parametrize("kind", LARGE)
@pytest.mark.parametrize("distribution", MOMENTS, ids=lambda name: name.name)
def test_weights_have_the_bound_mean_and_variance_of_their_distribution(distribution, kind):
    shape = LARGE[kind]
    shapes = {"layer.weight": shape, "layer.bias": (shape[0],)}
    arrays = initial_parameters(shapes, {"layer": kind}, 0, distribution)
    weight, bias = arrays["layer.weight"], arrays["layer.bias"]
    bound, variance = MOMENTS[distribution](prod(shape[1:]), shape[0] * prod(shape[2:]))
    assert weight.shape == shape
    assert weight.dtype == np.float64
    assert 0.99 * bound < np.abs(weight).max() <= bound
    assert abs(weight.mean()) < 4 * sqrt(variance / weight.size)
    assert weight.var() == pytest.approx(variance, rel=0.03)
    if distribution is Initializer.torch:
        assert 0.8 * bound < np.abs(bias).max() <= bound
    else:
        np.testing.assert_array_equal(bias, 0)


def test_a_norm_starts_as_the_identity():
    shapes = {"n.weight": (3,), "n.bias": (3,)}
    arrays = initial_parameters(shapes, {"n": "norm"}, 0, Initializer.torch)
    np.testing.assert_array_equal(arrays["n.weight"], np.ones(3))
    np.testing.assert_array_equal(arrays["n.bias"], np.zeros(3))


def test_a_truncated_normal_is_a_normal_within_two_deviations():
    values = truncated_normal(generator(0, "test"), (100, 1000))
    assert 1.999 < np.abs(values).max() <= 2
    assert values.std() == pytest.approx(0.87962566, rel=0.01)
    # Φ(1)-Φ(-1) over Φ(2)-Φ(-2): redrawing does not bend the density.
    assert (np.abs(values) < 1).mean() == pytest.approx(0.6826895 / 0.9544997, abs=0.005)


def test_a_bias_of_a_layer_without_a_weight_is_refused():
    shapes, kinds = {"decoder.bias": (3,)}, {"decoder": "linear"}
    with pytest.raises(UserError, match=r"decoder\.bias is drawn by the shape of decoder\.weight"):
        initial_parameters(shapes, kinds, 0, Initializer.torch)
    norm = initial_parameters({"norm.bias": (3,)}, {"norm": "norm"}, 0, Initializer.torch)
    assert norm["norm.bias"].tolist() == [0, 0, 0]
