"""Rows L25 and L29 of the table of layers: dropout, whose masks are the same bits on both backends."""

from dataclasses import replace

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from asserts import assert_gradients_close
from gradients import with_jax, with_torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.extend.random import threefry_2x32
from torch import nn

from flax_impl import randomness as flax_randomness
from lightning_impl import randomness as torch_randomness
from lightning_impl import threefry
from lightning_impl.layer_keys import LayerKeys
from pipeline.config.experiment import Config
from pipeline.config.train import Randomness, TrainConfig

WORDS = st.integers(0, 2**32 - 1)
SHARED = Config(seed=3, train=TrainConfig(randomness=Randomness.shared))
NATIVE = replace(SHARED, train=TrainConfig(randomness=Randomness.native))
RATES = [1e-6, 0.1, 0.5, 0.9, 1 - 1e-6]


def as_key(words):
    """The same key for torch and JAX."""
    torch_key = tuple(threefry.word(word) for word in words)
    return torch_key, jax.random.wrap_key_data(jnp.array(words, jnp.uint32), impl="threefry2x32")


def unsigned(tensors):
    """Content of int32 tensors, read as unsigned."""
    return [np.asarray(tensor).view(np.uint32) for tensor in tensors]


class TorchBranches(nn.Module):
    """Two dropout layers, one of them inside another module."""

    def __init__(self, rate, layer):
        super().__init__()
        self.first = layer(rate)
        self.inner = nn.ModuleList([nn.Sequential(), nn.Sequential()])
        self.inner[1].add_module("second", layer(rate))

    def forward(self, x):
        return torch.stack([self.first(x), self.inner[1](x)])


class FlaxInner(linen.Module):
    rate: float
    layer: type

    @linen.compact
    def __call__(self, x, train):
        return self.layer(self.rate, name="second")(x, train)


class FlaxBranches(linen.Module):
    rate: float
    layer: type

    @linen.compact
    def __call__(self, x, train=False):
        first = self.layer(self.rate, name="first")(x, train)
        return jnp.stack([first, FlaxInner(self.rate, self.layer, name="inner.1")(x, train)])


def branches(config, rate=0.5, step=0, part=0, layer="Dropout"):
    """A function of inputs for each backend, at a step."""
    torch_model = TorchBranches(rate, getattr(torch_randomness, layer))
    flax_model = FlaxBranches(rate, getattr(flax_randomness, layer))

    def ours(x):
        LayerKeys(torch_model).use(torch_randomness.step_key(config, step, part))
        return torch_model(x)

    def theirs(x):
        key = flax_randomness.step_key(config, jnp.asarray(step), part)
        return flax_model.apply({}, x, train=True, rngs={"dropout": key})

    return ours, theirs


@settings(max_examples=50)
@given(st.tuples(WORDS, WORDS), st.lists(st.tuples(WORDS, WORDS), min_size=3, max_size=3))
def test_threefry_matches_jax_for_any_key_and_any_64_bit_counter(words, counters):
    high, low = zip(*counters, strict=True)
    key, _ = as_key(words)
    found = threefry.threefry(
        key, *(torch.stack([threefry.word(n) for n in half]) for half in (high, low))
    )
    # jax.extend takes the counters' upper words first, then the lower ones, and gives both in a row.
    expected = threefry_2x32(jnp.array(words, jnp.uint32), jnp.array(high + low, jnp.uint32))
    np.testing.assert_array_equal(np.concatenate(unsigned(found)), expected)


@settings(max_examples=50)
@given(st.tuples(WORDS, WORDS), WORDS)
def test_folding_a_number_into_a_key_matches_jax(words, number):
    torch_key, jax_key = as_key(words)
    found = threefry.fold_in(torch_key, number)
    expected = jax.random.key_data(jax.random.fold_in(jax_key, number))
    np.testing.assert_array_equal(unsigned(found), expected)


@settings(max_examples=40)
@given(st.tuples(WORDS, WORDS), st.sampled_from([(), (0,), (7,), (2, 3), (3, 1, 4, 2)]))
def test_random_bits_of_any_shape_match_jax(words, shape):
    torch_key, jax_key = as_key(words)
    found = threefry.draw_bits(torch_key, torch.Size(shape), torch.device("cpu"))
    expected = jax.random.bits(jax_key, shape, jnp.uint32)
    assert found.shape == expected.shape == tuple(shape)
    np.testing.assert_array_equal(found.numpy().view(np.uint32), expected)


@pytest.mark.parametrize("rank", [0, 3, 2**28])
@pytest.mark.parametrize("rate", RATES)
def test_a_compiled_program_draws_the_same_masks(rate, rank):
    key, _ = as_key((2**31 + 7, 2**32 - 9))
    shape = torch.Size((3, 2))
    expected = torch_randomness.draw_mask(key, rate, torch.ones(shape), shape, rank)
    words = [*map(int, key), rank * shape.numel(), torch_randomness._least(rate)]
    found = torch_randomness._draw_flat(torch.tensor(words, dtype=torch.int32), shape.numel())
    assert torch.equal(found.view(shape), expected)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("layer", ["Dropout", "DropPath"])
@pytest.mark.parametrize(
    ("rate", "step", "part"), [*((rate, 0, 0) for rate in RATES), (0.5, 1, 0), (0.5, 70_000, 3)]
)
def test_L29_shared_masks_values_and_gradients_are_the_same(layer, rate, step, part):
    x = np.random.default_rng(0).normal(size=(16, 5, 3))
    ours, theirs = branches(SHARED, rate, step, part, layer)
    found, expected = with_jax(theirs, x), with_torch(ours, x)
    np.testing.assert_array_equal(found[0] == 0, expected[0] == 0)
    assert_gradients_close(found, expected)
    kept = found[0] != 0
    np.testing.assert_allclose(found[0][kept], (np.stack([x, x]) / (1 - rate))[kept], rtol=1e-15)
    if layer == "DropPath":
        np.testing.assert_array_equal(kept, kept[:, :, :1, :1] & np.ones_like(kept))


@pytest.mark.parametrize("config", [SHARED, NATIVE], ids=["shared", "native"])
@pytest.mark.parametrize("rate", RATES)
def test_L29_the_kept_share_and_the_mean_match_the_rate(config, rate):
    samples = 2**16
    for branch in branches(config, rate):
        y = np.asarray(branch(ones((samples,), branch)))
        kept, deviation = (y != 0).mean(axis=1), np.sqrt(rate * (1 - rate) / samples)
        np.testing.assert_allclose(kept, 1 - rate, atol=5 * deviation)
        np.testing.assert_allclose(y.mean(axis=1), 1, atol=5 * deviation / (1 - rate))


def ones(shape, branch):
    """Ones as a tensor or an array, as a backend needs."""
    return torch.ones(shape) if branch.__name__ == "ours" else jnp.ones(shape)


@pytest.mark.parametrize("config", [SHARED, NATIVE], ids=["shared", "native"])
@pytest.mark.parametrize("layer", ["Dropout", "DropPath"])
def test_masks_depend_only_on_layer_step_part_and_seed(config, layer):
    options = {"layer": layer, "step": 2, "part": 1}
    changes = [(config, {"step": 3}), (config, {"part": 2}), (replace(config, seed=4), {})]
    shape = (4, 64) if layer == "Dropout" else (256, 1)
    for side in range(2):

        def drawn(config, side=side, **changed):
            branch = branches(config, **options | changed)[side]
            return np.asarray(branch(ones(shape, branch))) != 0

        before = drawn(config)
        np.testing.assert_array_equal(drawn(config), before)
        assert (before[0] != before[1]).any()
        masks = [before[0], before[1]]
        for other, changed in changes:
            masks += list(drawn(other, **changed))
        assert len({m.tobytes() for m in masks}) == len(masks)
        # Independent: any two agree in about half of their bits.
        agree = np.mean([(a == b).mean() for i, a in enumerate(masks) for b in masks[:i]])
        assert abs(agree - 0.5) < 0.1


def test_L25_attention_weights_are_dropped_independently():
    shape = (3, 2, 8, 8)  # [batch, heads, queries, keys]
    for branch in branches(SHARED):
        kept = np.asarray(branch(ones(shape, branch)))[0] != 0
        flat = kept.reshape(6, 64)
        assert len({row.tobytes() for row in flat}) == 6


@pytest.mark.parametrize("config", [SHARED, NATIVE], ids=["shared", "native"])
def test_rate_0_and_evaluation_drop_nothing_and_need_no_key(config):
    for branch in branches(config, rate=0.0):
        np.testing.assert_array_equal(branch(ones((4, 64), branch)), 1)
    np.testing.assert_array_equal(torch_randomness.Dropout(0.5).eval()(torch.ones(9)), 1)
    np.testing.assert_array_equal(flax_randomness.Dropout(0.5).apply({}, jnp.ones(9)), 1)


def test_a_rate_that_rounds_to_one_drops_everything():
    for branch in branches(SHARED, rate=1 - 1e-12):
        assert not np.asarray(branch(ones((4, 64), branch))).any()


def test_half_precision_inputs_stay_in_half_precision():
    for branch in branches(SHARED):
        x = ones((4, 64), branch)
        half = x.bfloat16() if isinstance(x, torch.Tensor) else x.astype(jnp.bfloat16)
        assert "bfloat16" in str(branch(half).dtype)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_draws_the_same_bits():
    key, _ = as_key((1, 2))
    shape = torch.Size((5, 7))
    found = threefry.draw_bits(key, shape, torch.device("cuda")).cpu()
    assert torch.equal(found, threefry.draw_bits(key, shape, torch.device("cpu")))
