"""Values of both sides and their gradients, side by side in float64."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as linen
import jax
import numpy as np
import torch
from torch import nn

from flax_impl import layers as flax_layers
from flax_impl.state import from_canonical, to_canonical
from lightning_impl import layers as torch_layers
from lightning_impl.state import parameters_of

Found = tuple[np.ndarray, list[np.ndarray]]  # a value, and gradients of a weighted sum of it


def weights(shape: tuple[int, ...]) -> np.ndarray:
    """Of the sum whose gradient is taken; no two alike, so that no error cancels."""
    return np.linspace(0.5, 1.5, int(np.prod(shape))).reshape(tuple(shape))


def compiled(function: Callable, **options: Any) -> Callable:
    """Compiled in a quarter of the time: what is called once need not be fast."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0}, **options)


def with_torch(function: Callable, *arrays: np.ndarray) -> Found:
    """What a function of tensors gives, and its gradients by all of them."""
    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    value = function(*tensors)
    (value * torch.tensor(weights(value.shape))).sum().backward()
    return value.detach().numpy(), [tensor.grad.numpy() for tensor in tensors]


def with_jax(function: Callable, *arrays: np.ndarray) -> Found:
    """What a function of arrays gives, and its gradients by all of them."""

    @compiled
    @partial(jax.grad, argnums=range(len(arrays)), has_aux=True)
    def gradients_and_value(*arrays: jax.Array) -> tuple[jax.Array, jax.Array]:
        value = function(*arrays)
        return (value * weights(value.shape)).sum(), value

    gradients, value = gradients_and_value(*arrays)
    return np.asarray(value), [np.asarray(gradient) for gradient in gradients]


def assert_close(found: Found, expected: Found) -> None:
    """Equal to the last digits, which is 1e-12."""
    (value, gradients), (wanted, by) = found, expected
    np.testing.assert_allclose(value, wanted, rtol=1e-12, atol=1e-14)
    for gradient, other in zip(gradients, by, strict=True):
        np.testing.assert_allclose(gradient, other, rtol=1e-12, atol=1e-13)


def channels_first(x: torch.Tensor) -> torch.Tensor:
    """`[batch, …, channels]` as torch's layers want it."""
    return x.movedim(-1, 1)


def channels_last(x: torch.Tensor) -> torch.Tensor:
    """The inverse of `channels_first`."""
    return x.movedim(1, -1)


def randomised(layer: nn.Module, seed: int = 0) -> nn.Module:
    """A torch layer in float64 whose parameters all differ, those of norms too."""
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
    """Hold a Flax layer with a torch layer's parameters to be that layer.

    Names, shapes and kinds of its parameters, its outputs, and their gradients by inputs and parameters.

    Args:
        torch_layer: in float64.
        flax_layer: with `param_dtype=float`.
        x: inputs, channels last; by whole numbers (tokens) there is no gradient.
        call: outputs of torch's layer, channels last.
        apply: the same of Flax's, bound to its parameters.
    """
    layout = flax_layers.layout_of(flax_layer, jax.ShapeDtypeStruct(x.shape, x.dtype))
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
    by, value = compiled(differentiate)(from_canonical(arrays, layout), x)
    by_params = to_canonical(by[0] if smooth else by, layout)
    assert {n: a.shape for n, a in by_params.items()} == {n: a.shape for n, a in arrays.items()}
    found = [by_params[name] for name in arrays]
    if smooth:
        found, wanted = [np.asarray(by[1]), *found], [inputs.grad.numpy(), *wanted]
    assert_close((np.asarray(value), found), (expected.detach().numpy(), wanted))
