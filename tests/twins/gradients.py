"""Values and gradients of torch and JAX functions in float64."""

from collections.abc import Callable
from functools import partial

import flax.linen as linen
import jax
import numpy as np
import torch
from asserts import assert_gradients_close
from torch import nn

from flax_impl import layers as flax_layers
from flax_impl.layout import layout_of
from flax_impl.state import from_canonical, to_canonical
from lightning_impl import layers as torch_layers
from lightning_impl.state import parameters_of

Found = tuple[np.ndarray, list[np.ndarray]]  # a value, and gradients of a weighted sum of it


def weights(shape: tuple[int, ...]) -> np.ndarray:
    """Weights of the sum whose gradient is taken; all differ, so that no errors cancel."""
    return np.linspace(0.5, 1.5, int(np.prod(shape))).reshape(tuple(shape))


def with_torch(function: Callable, *arrays: np.ndarray) -> Found:
    """Value of a function of tensors, and its gradients with respect to each of them."""
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    value = function(*tensors)
    (value * torch.tensor(weights(value.shape))).sum().backward()
    return value.detach().numpy(), [tensor.grad.numpy() for tensor in tensors]


def gradients_with_jax(function: Callable, count: int) -> Callable[..., Found]:
    """Value of a function of `count` arrays, and its gradients by each of them, compiled once."""

    @jax.jit
    @partial(jax.grad, argnums=range(count), has_aux=True)
    def gradients_and_value(*arrays: jax.Array) -> tuple[jax.Array, jax.Array]:
        value = function(*arrays)
        return (value * weights(value.shape)).sum(), value

    def found(*arrays: np.ndarray) -> Found:
        gradients, value = gradients_and_value(*arrays)
        return np.asarray(value), [np.asarray(gradient) for gradient in gradients]

    return found


def with_jax(function: Callable, *arrays: np.ndarray) -> Found:
    """Value of a function of arrays, and its gradients with respect to each of them."""
    return gradients_with_jax(function, len(arrays))(*arrays)


def channels_first(x: torch.Tensor) -> torch.Tensor:
    """`[batch, …, channels]` in the layout of torch's layers."""
    return x.movedim(-1, 1)


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """The inverse of `channels_first`."""
    return x.movedim(1, -1)


def randomised(layer: nn.Module, seed: int = 0) -> nn.Module:
    """A torch layer in float64 with random parameters, those of norms included."""
    random = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in layer.double().parameters():
            parameter.copy_(torch.tensor(random.normal(size=tuple(parameter.shape))))
    return layer


def assert_twins(
    torch_layer: nn.Module,
    flax_layer: linen.Module,
    x: np.ndarray,
    call: Callable = lambda layer, x: layer(x),
    apply: Callable = lambda call, x: call(x),
) -> None:
    """Assert that a Flax layer with the parameters of a torch layer equals it.

    Compares names, shapes and kinds of parameters, outputs, and gradients by inputs and parameters.

    Args:
        torch_layer: the torch layer, in float64.
        flax_layer: the Flax layer, with `param_dtype=float`.
        x: inputs, channels last; whole numbers (tokens) have no gradient.
        call: computes the outputs of the torch layer, channels last.
        apply: computes the outputs of the Flax layer bound to its parameters.
    """
    layout = layout_of(flax_layer, jax.ShapeDtypeStruct(x.shape, x.dtype))
    assert flax_layers.layer_kinds(layout) == torch_layers.layer_kinds(torch_layer)
    arrays = parameters_of(torch_layer)
    smooth = np.issubdtype(x.dtype, np.floating)

    inputs = torch.tensor(x, requires_grad=smooth)
    expected = call(torch_layer, inputs)
    torch_layer.zero_grad()
    (expected * torch.tensor(weights(expected.shape))).sum().backward()
    wanted = [parameter.grad.numpy() for parameter in torch_layer.parameters()]

    def loss(params: dict, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        value = apply(flax_layer.bind({"params": params}), x)
        return (value * weights(value.shape)).sum(), value

    differentiate = jax.grad(loss, (0, 1) if smooth else 0, has_aux=True)
    by, value = jax.jit(differentiate)(from_canonical(arrays, layout), x)
    by_params = to_canonical(by[0] if smooth else by, layout)
    assert {n: a.shape for n, a in by_params.items()} == {n: a.shape for n, a in arrays.items()}
    found = [by_params[name] for name in arrays]
    if smooth:
        found, wanted = [np.asarray(by[1]), *found], [inputs.grad.numpy(), *wanted]
    assert_gradients_close((np.asarray(value), found), (expected.detach().numpy(), wanted))
