"""Layers, models and losses in float64: values and gradients on both backends."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import torch.nn.functional as F
from asserts import assert_gradients_close
from flax import linen
from gradients import (
    assert_twins,
    channels_first,
    channels_last,
    with_jax,
    with_torch,
)
from losses import losses

from flax_impl import layers as flax_layers
from flax_impl import models as flax_models
from flax_impl.tasks.classification import cross_entropies
from lightning_impl import layers as torch_layers
from lightning_impl import models as torch_models
from pipeline.config.models import Activation, CNNConfig, LinearConfig, MLPConfig, SimpleCNNConfig

pytestmark = pytest.mark.usefixtures("float64")
RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("name", list(Activation), ids=lambda name: name.name)
def test_an_activation_and_its_derivative_are_the_same_on_both_backends(name):
    x = np.concatenate([np.linspace(-30, 30, 601), [0.0, 1e-300, 700.0, -700.0]])
    assert_gradients_close(
        with_jax(flax_layers.ACTIVATIONS[name], x), with_torch(torch_layers.ACTIVATIONS[name](), x)
    )


@pytest.mark.parametrize("side", [4, 5, 7], ids="side {}".format)
@pytest.mark.parametrize(("size", "stride", "padding"), [(2, 2, 0), (3, 2, 1)])
def test_a_pool_and_its_gradient_are_those_of_both_libraries(side, size, stride, padding):
    x = RANDOM.integers(-3, 1, (2, side, side, 3)).astype(float)  # many ties
    around = ((padding, padding), (padding, padding))
    own = with_jax(lambda x: flax_layers.max_pool(x, size, stride, padding), x)
    by_xla = with_jax(lambda x: linen.max_pool(x, (size, size), (stride, stride), around), x)
    by_torch = with_torch(
        lambda x: channels_last(F.max_pool2d(channels_first(x), size, stride, padding)), x
    )
    for value, of_xla, of_torch in zip(own, by_xla, by_torch, strict=True):
        np.testing.assert_array_equal(value, of_xla)
        np.testing.assert_array_equal(value, of_torch)
    x[0, 1, 1, 0] = np.nan
    assert jnp.isnan(flax_layers.max_pool(x, size, stride, padding)).any()


@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 7)], ids=str)
def test_the_cross_entropy_of_jax_is_optax_s_to_the_last_digit(shape):
    logits, targets = RANDOM.normal(size=shape), RANDOM.integers(0, shape[-1], shape[:-1])
    expected = optax.softmax_cross_entropy_with_integer_labels
    with jax.disable_jit():
        found, wanted = (
            with_jax(lambda logits, loss=loss: loss(logits, jnp.asarray(targets)), logits)
            for loss in (partial(cross_entropies, smoothing=0.0), expected)
        )
    for value, of_optax in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(value, of_optax)


def test_flattening_follows_the_order_of_torch():
    x = RANDOM.normal(size=(2, 3, 4, 5))
    assert_gradients_close(
        with_jax(flax_layers.flatten, x), with_torch(lambda x: channels_first(x).flatten(1), x)
    )
    x = RANDOM.normal(size=(2, 7))
    assert_gradients_close(with_jax(flax_layers.flatten, x), with_torch(lambda x: x.flatten(1), x))


MODELS = {
    "linear on images": (LinearConfig(), (4, 5, 3)),
    "linear on vectors": (LinearConfig(), (6,)),
    "mlp on images": (MLPConfig(hidden=[7, 5]), (4, 5, 3)),
    "mlp of one layer": (MLPConfig(hidden=[]), (6,)),
    "simple_cnn": (SimpleCNNConfig(channels=3), (5, 7, 2)),
    "cnn": (CNNConfig(activation=Activation.gelu), (9, 12, 3)),
    "cnn with a larger input": (CNNConfig(input_size=11), (8, 7, 1)),
    "cnn of even kernels": (CNNConfig(kernel_size=4, padding=0, hidden=[]), (17, 16, 1)),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_the_same_names_shapes_outputs_and_gradients(name):
    config, shape = MODELS[name]
    torch_model = torch_models.build_model(config, shape, 4)
    flax_model = flax_models.build_model(config, shape, 4, dtype=float, param_dtype=float)
    x = RANDOM.normal(size=(3, *shape))
    # With torch's own initial weights: random ones of deviation 1 would saturate every activation.
    assert_twins(torch_model.double(), flax_model, x, lambda model, x: model(channels_first(x)))


def cross_entropy(outputs, targets, smoothing):
    """Cross-entropy by its definition, summed over samples, and its gradient with respect to the outputs."""
    classes = outputs.shape[1]
    soft = np.eye(classes)[targets] * (1 - smoothing) + smoothing / classes
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -(soft * logs).sum(), np.exp(logs) - soft


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("scale", [1.0, 300.0], ids=["mild", "extreme"])
def test_cross_entropy_matches_its_definition(smoothing, scale):
    outputs, targets = RANDOM.normal(size=(6, 5)) * scale, np.array([0, 1, 2, 3, 4, 0])
    total, gradient = cross_entropy(outputs, targets, smoothing)
    expected = (total, (outputs.argmax(axis=1) == targets).sum())
    ours, theirs = losses("classification", smoothing, 5, label=targets)
    tensor = torch.tensor(outputs, requires_grad=True)
    sums = ours.sums(tensor, {"label": torch.tensor(targets)}, training=True)
    sums[0].backward()
    assert [value.item() for value in sums] == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(tensor.grad.numpy(), gradient, rtol=1e-12, atol=1e-14)

    def loss(outputs):
        sums = theirs.sums(outputs, {"label": jnp.asarray(targets)}, training=True)
        return sums[0], sums

    by_outputs, sums = jax.jit(jax.grad(loss, has_aux=True))(outputs)
    assert [float(value) for value in sums] == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(by_outputs, gradient, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_labels_of_multilabel_are_smoothed_towards_a_half_in_training_alone(smoothing):
    outputs, labels = RANDOM.normal(size=(6, 3)), RANDOM.integers(0, 2, (6, 3))
    ours, theirs = losses("multilabel", smoothing, 3, labels=labels)
    for share in (smoothing, 0.0):
        soft = np.abs(labels - share / 2)
        logs = np.log1p(np.exp(-outputs)) * soft + np.log1p(np.exp(outputs)) * (1 - soft)
        for loss, array in ((ours, torch.tensor), (theirs, jnp.asarray)):
            found = loss.sums(array(outputs), {"labels": array(labels)}, training=share > 0)
            assert float(found[0]) == pytest.approx(logs.mean(axis=1).sum(), rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_tokens_equals_that_of_as_many_samples(smoothing):
    outputs, targets = RANDOM.normal(size=(4, 3, 5)), RANDOM.integers(0, 5, (4, 3))
    total, gradient = cross_entropy(outputs.reshape(12, 5), targets.ravel(), smoothing)
    expected = (total, (outputs.argmax(axis=2) == targets).sum())
    ours, theirs = losses("language", smoothing, 5, next=targets)
    tensor, batch = torch.tensor(outputs, requires_grad=True), {"next": torch.tensor(targets)}
    sums = ours.sums(tensor, batch, training=True)
    (sums[0] / targets.size).backward()
    assert [value.item() for value in sums] == pytest.approx(expected, rel=1e-12)
    by_mean = gradient.reshape(outputs.shape) / 12
    np.testing.assert_allclose(tensor.grad.numpy(), by_mean, rtol=1e-12, atol=1e-14)

    def loss(outputs, batch):
        sums = theirs.sums(outputs, batch, training=True)
        return sums[0] / targets.size, sums

    batch = {"next": jnp.asarray(targets)}
    by_outputs, sums = jax.jit(jax.grad(loss, has_aux=True))(outputs, batch)
    assert [float(value) for value in sums] == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(by_outputs, by_mean, rtol=1e-12, atol=1e-14)


def test_squared_error_matches_its_definition_without_a_factor_of_one_half():
    outputs, targets = RANDOM.normal(size=(6, 2)), RANDOM.normal(size=(6, 2))
    center = targets[:4].mean(axis=0)
    error, away = outputs - targets, targets - center
    expected = ((error**2).mean(1).sum(), np.abs(error).sum(), away.sum(), (away**2).sum())
    ours, theirs = losses("regression", target=targets[:4])
    sums = ours.sums(torch.tensor(outputs), {"target": torch.tensor(targets)})
    assert [float(value) for value in sums] == pytest.approx(expected, rel=1e-12)
    sums = theirs.sums(jnp.asarray(outputs), {"target": jnp.asarray(targets)})
    assert [float(value) for value in sums] == pytest.approx(expected, rel=1e-12)


def test_the_first_of_equal_outputs_is_the_predicted_class():
    outputs, targets = np.array([[1.0, 3, 3], [2, 2, 2], [0, 0, 5]]), np.array([2, 0, 2])
    ours, theirs = losses("classification", outputs=3, label=targets)
    assert ours.sums(torch.tensor(outputs), {"label": torch.tensor(targets)})[1] == 2
    assert theirs.sums(jnp.asarray(outputs), {"label": jnp.asarray(targets)})[1] == 2


# Not offered by a key, but what a loss of one's own may be made of (row M5 of the specification).
PARTS = {
    "huber": (F.huber_loss, lambda x, y: optax.huber_loss(x, y).mean()),
    "binary cross-entropy": (
        F.binary_cross_entropy_with_logits,
        lambda x, y: optax.sigmoid_binary_cross_entropy(x, y).mean(),
    ),
    "Kullback-Leibler": (
        lambda x, y: F.kl_div(F.log_softmax(x, 1), y, reduction="batchmean"),
        lambda x, y: optax.kl_divergence(linen.log_softmax(x), y).mean(),
    ),
}


@pytest.mark.parametrize("part", PARTS)
def test_other_loss_functions_are_the_same_on_both_backends(part):
    ours, theirs = PARTS[part]
    x, y = RANDOM.normal(size=(6, 5)) * 2, RANDOM.dirichlet(np.ones(5), 6)
    assert_gradients_close(
        with_jax(lambda x: theirs(x, y), x), with_torch(lambda x: ours(x, torch.tensor(y)), x)
    )


def test_gradients_along_residual_layers_are_computed_once_on_a_cpu():
    """XLA would compute each again from those of all layers after it."""
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(12, 4, 4)))

    def program(add):
        def loss(weights, x):
            for weight in weights:
                x = add(x + jnp.tanh((x - x.mean(-1, keepdims=True)) @ weight))
            return jnp.sum(x**2)

        compiled = jax.jit(jax.grad(loss, (0, 1))).lower(weights, jnp.ones((3, 4))).compile()
        inputs = max(
            map(int, re.findall(r"parameter\((\d+)\)", compiled.as_text().split("ENTRY")[0]))
        )
        return inputs, compiled(weights, jnp.ones((3, 4)))

    (most, found), (more, expected) = program(flax_layers.computed_once), program(lambda x: x)
    assert most < 12 < more
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
