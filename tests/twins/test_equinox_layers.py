"""Layers of Equinox take the weights of torch's, and are called as their author expects."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax.traverse_util import flatten_dict

from flax_impl.adapters.calls import observing
from flax_impl.adapters.from_equinox import FromEquinox, Template
from flax_impl.layers import layer_kinds
from flax_impl.layout import initial_variables, layout_of, module_names
from flax_impl.randomness import draw_mask
from flax_impl.state import from_canonical, shapes_of, to_canonical
from lightning_impl import layers as torch_layers
from pipeline.errors import UserError
from pipeline.verify.names.names_file import NamesFile, Side
from pipeline.verify.names.rows import Row

KEY = jax.random.key(0)
BIASES = {f"use_{name}_bias": True for name in ("query", "key", "value", "output")}


class Layer(eqx.Module):
    """A layer in a model: alone it would have no name."""

    layer: eqx.Module
    is_per_token: bool = False

    def __call__(self, x):
        if isinstance(self.layer, eqx.nn.MultiheadAttention):
            return self.layer(x, x, x)
        return jax.vmap(self.layer)(x) if self.is_per_token else self.layer(x)


def adapted(made):
    return FromEquinox(np.dtype(np.float64), lambda key: made, Template(made))


# torch's layer, Equinox's, the shape of a batch for torch, and whether Equinox takes it token by token.
PAIRS = {
    "linear": (torch.nn.Linear(5, 3), eqx.nn.Linear(5, 3, key=KEY), (2, 5), False),
    "linear over tokens": (torch.nn.Linear(5, 3), eqx.nn.Linear(5, 3, key=KEY), (2, 4, 5), True),
    "convolution": (
        torch.nn.Conv2d(2, 4, 3, 2, 1, groups=2),
        eqx.nn.Conv2d(2, 4, 3, 2, 1, groups=2, key=KEY), (2, 2, 6, 6), False,
    ),
    "convolution of sequences": (
        torch.nn.Conv1d(2, 4, 3), eqx.nn.Conv1d(2, 4, 3, key=KEY), (2, 2, 6), False,
    ),
    "transposed convolution": (
        torch.nn.ConvTranspose2d(2, 3, 3, 2), eqx.nn.ConvTranspose2d(2, 3, 3, 2, key=KEY),
        (2, 2, 4, 4), False,
    ),
    "layer norm": (torch.nn.LayerNorm(5), eqx.nn.LayerNorm(5), (2, 5), False),
    "group norm": (torch.nn.GroupNorm(2, 4), eqx.nn.GroupNorm(2, 4), (2, 4, 3, 3), False),
    "attention": (
        torch.nn.MultiheadAttention(8, 2, batch_first=True),
        eqx.nn.MultiheadAttention(2, 8, **BIASES, key=KEY), (2, 5, 8), False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_a_layer_with_the_weights_of_torch_has_its_outputs(name):
    torch_layer, layer, shape, is_per_token = PAIRS[name]
    torch_model = torch.nn.ModuleDict({"layer": torch_layer}).double()
    with torch.no_grad():
        for parameter in torch_model.parameters():
            parameter.normal_()
    x = np.random.default_rng(0).standard_normal(shape)
    with jax.enable_x64(True):
        model = adapted(Layer(layer, is_per_token))
        taken = np.moveaxis(x, 1, -1) if x.ndim == 4 else x
        layout = layout_of(model, jax.ShapeDtypeStruct(taken.shape, taken.dtype))
        weights = {n: p.detach().numpy() for n, p in torch_model.named_parameters()}
        assert layer_kinds(layout) == torch_layers.layer_kinds(torch_model)
        assert shapes_of(layout) == {n: w.shape for n, w in weights.items()}
        params = from_canonical(weights, layout)
        found = np.asarray(model.apply({"params": params}, jnp.asarray(taken)))
        for path, array in to_canonical(params, layout).items():
            np.testing.assert_array_equal(array, weights[path])
    found = np.moveaxis(found, -1, 1) if x.ndim == 4 else found
    expected = torch_layer(*[torch.from_numpy(x)] * (3 if "attention" in name else 1))
    expected = expected[0] if isinstance(expected, tuple) else expected
    np.testing.assert_allclose(found, expected.detach().numpy(), rtol=1e-10, atol=1e-12)


class Parts(eqx.Module):
    """All that is no plain layer: containers, stacked layers, tied ones, integers, functions, keys."""

    blocks: dict
    stack: eqx.nn.Linear
    tied: eqx.nn.Shared
    order: jax.Array
    table: np.ndarray
    activation: object
    rate: float
    key: jax.Array

    def __init__(self, key):
        def linear(key, bias=False):
            return eqx.nn.Linear(4, 4, use_bias=bias, key=key)

        keys = jax.random.split(key, 4)
        self.blocks = {"a": [linear(keys[0], bias=True), jnp.tanh], "b": (eqx.nn.Identity(),)}
        self.stack = eqx.filter_vmap(linear)(keys[1:3])
        pair = linear(keys[3]), linear(keys[3])
        self.tied = eqx.nn.Shared(pair, lambda p: p[1].weight, lambda p: p[0].weight)
        self.order, self.table = jax.random.permutation(key, 4), np.arange(3)
        self.activation, self.rate, self.key = jax.nn.relu, 0.5, key

    def __call__(self, x):
        first, second = self.tied()
        x = self.blocks["a"][1](self.blocks["a"][0](x[self.order]))
        x, _ = jax.lax.scan(lambda x, w: (w @ x, None), x, self.stack.weight)
        return self.activation(second(first(x))) * self.rate + self.table.sum()


def test_containers_stacked_and_tied_layers_integers_and_functions_are_where_they_belong():
    model, x = adapted(Parts(KEY)), jax.ShapeDtypeStruct((2, 4), jnp.float32)
    layout = layout_of(model, x)
    by_collection = {
        collection: {place.name: place.shape for place in layout.values()
                     if place.collection == collection}
        for collection in ("params", "batch_stats")
    }  # fmt: skip
    assert by_collection == {
        "params": {
            "blocks.a.0.weight": (4, 4), "blocks.a.0.bias": (4,), "stack.weight": (2, 4, 4),
            "tied.pytree.0.weight": (4, 4),
        },
        "batch_stats": {"order": (4,), "table": (3,)},
    }  # fmt: skip
    assert layer_kinds(layout) == {
        "blocks.a.0": "linear", "stack": "own", "tied.pytree.0": "linear", "": "own",
    }  # fmt: skip
    made = Parts(KEY)
    variables = initial_variables(adapted(made), [x], 0)
    values = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    found = model.apply({k: jax.tree.map(jnp.asarray, v) for k, v in variables.items()}, values)
    np.testing.assert_allclose(found, jax.vmap(made)(values), rtol=1e-6)
    assert flatten_dict(variables["batch_stats"])[("order",)].dtype == jnp.int32
    assert jax.tree.map(jnp.shape, model.native(variables)) == jax.tree.map(jnp.shape, made)


class Tokens(eqx.Module):
    """Layers that are called token by token, with one dropout for two places."""

    first: eqx.nn.Linear
    drop: eqx.nn.Dropout

    def __call__(self, x, *, key):
        keys = jax.random.split(key, len(x))
        x = jax.vmap(lambda x, key: self.drop(self.first(x), key=key))(x, keys)
        return self.drop(x, key=key)


def test_a_layer_inside_vmap_is_seen_with_the_whole_batch_and_draws_a_mask_for_all_of_it():
    model = adapted(Tokens(eqx.nn.Linear(4, 3, key=KEY), eqx.nn.Dropout(0.4)))
    x = np.ones((2, 5, 4), np.float32)
    variables = initial_variables(model, [jax.ShapeDtypeStruct(x.shape, x.dtype)], 0)
    called = []

    def observe(path, call, args, kwargs):
        called.append(path)
        return call(*args, **kwargs)

    with observing(observe):
        found = model.apply(variables, x, train=True, rngs={"dropout": KEY})
    assert called == ["first", "drop", "drop"]
    masks = [draw_mask(KEY, name, 0.4, (2, 5, 3)) for name in ("drop", "drop#2")]
    kept = np.logical_and(*map(np.asarray, masks))
    assert 0.2 < kept.mean() < 0.6
    np.testing.assert_array_equal(np.asarray(found) != 0, kept)
    gradient = jax.grad(lambda v: model.apply(v, x, train=True, rngs={"dropout": KEY}).sum())
    expected = kept.sum((0, 1)) / 0.6**2
    np.testing.assert_allclose(gradient(variables)["params"]["first"]["bias"], expected, rtol=1e-6)


class Denoiser(eqx.Module):
    """A convolution and a batch norm with statistics, from image to image."""

    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm

    def __init__(self, key, mode="batch"):
        self.conv = eqx.nn.Conv2d(3, 2, 1, key=key)
        self.norm = eqx.nn.BatchNorm(2, "images", momentum=0.9, mode=mode)

    def __call__(self, x, state):
        return self.norm(self.conv(x), state)


@pytest.mark.parametrize("mode", ["batch", "ema"])
def test_images_are_channels_first_inside_and_norms_count_their_batches_in_any_precision(mode):
    made = Denoiser(KEY, mode)
    model = FromEquinox(np.dtype(jnp.bfloat16), lambda key: Denoiser(KEY, mode), Template(made))
    x = np.random.default_rng(0).standard_normal((2, 5, 4, 3)).astype(np.float32)
    variables = initial_variables(model, [jax.ShapeDtypeStruct(x.shape, x.dtype)], 0)
    for count in (0, 1, 2):
        statistics = {k: np.asarray(v) for k, v in variables["batch_stats"]["norm"].items()}
        counter = statistics["batch_counter" if mode == "batch" else "ema_first_time_index"]
        assert counter == (count if mode == "batch" else min(count, 1))
        assert statistics["running_mean"].dtype == np.float32
        found, after = model.apply(variables, x, train=True, mutable=["batch_stats"])
        variables = variables | after
    assert found.shape == (2, 5, 4, 2)
    assert found.dtype == jnp.bfloat16
    mean = np.asarray(found, np.float32).mean((0, 1, 2))
    np.testing.assert_allclose(mean, 0, atol=0.02)
    module, state = model.native(variables)
    evaluated = model.apply(variables, x)
    assert evaluated.shape == found.shape
    assert (module.norm.inference, type(state).__name__) == (True, "State")


class Rotation(eqx.Module):
    """A parameter of complex numbers."""

    phases: jax.Array

    def __call__(self, x):
        return (x * self.phases).real


def test_complex_parameters_are_refused_by_name():
    model = adapted(Rotation(jnp.ones(4, jnp.complex64)))
    with pytest.raises(UserError, match="phases holds complex numbers, which no optimizer here"):
        layout_of(model, jax.ShapeDtypeStruct((2, 4), jnp.float32))


def test_names_of_another_model_go_for_convolutions_and_the_counts_of_batches_too():
    made = Denoiser(KEY)
    layers = (("conv", "body.0"), ("norm", "body.1"))
    arrays = {"conv": ("weight", "bias"), "norm": ("weight", "bias", "running_mean", "running_var")}
    pairs = [(f"{to}.{a}", f"{of}.{a}") for of, to in layers for a in arrays[of]]
    shapes = {"conv.weight": (2, 3, 1, 1), "conv.bias": (2, 1, 1)}
    own = {name: shapes.get(name, (2,)) for _, name in pairs}
    canonical = {to: (2,) if to == "body.0.bias" else own[name] for to, name in pairs}
    rows = tuple(
        Row(to, name, "reshape(2, 1, 1)" if name == "conv.bias" else "") for to, name in pairs
    )
    names = NamesFile(
        Path("names.yaml"),
        "model.names",
        rows,
        range(len(rows)),
        Side("torch", canonical),
        Side("equinox.Module", own),
    )
    layout = layout_of(adapted(made), jax.ShapeDtypeStruct((2, 5, 4, 3), jnp.float32), names=names)
    assert shapes_of(layout) == canonical
    counter = layout["norm", "batch_counter"]
    assert counter.name == "body.1.num_batches_tracked"
    assert module_names(layout) == {"conv": "body.0", "norm": "body.1"}
