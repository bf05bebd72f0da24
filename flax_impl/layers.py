"""The kinds of layers, and the pieces that models are built of."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from pipeline.config import Activation


@dataclass(frozen=True)
class LayerKind:
    """How the parameters of a kind of layer are called and laid out here and canonically.

    Only here: canonical names and layouts are torch's own.

    Args:
        name: of the kind.
        parameters: Flax's name to (canonical name, the axes that transpose Flax's layout to it).
    """

    name: str
    parameters: dict[str, tuple[str, tuple[int, ...]]]


# Parameters, gradients and optimizer slots of a layer are translated by its kind.
KINDS: dict[type[nn.Module], LayerKind] = {
    nn.Dense: LayerKind("linear", {"kernel": ("weight", (1, 0)), "bias": ("bias", (0,))}),
    nn.Conv: LayerKind("conv", {"kernel": ("weight", (3, 2, 0, 1)), "bias": ("bias", (0,))}),
}

ACTIVATIONS: dict[Activation, Callable[[jax.Array], jax.Array]] = {
    Activation.relu: nn.relu,
    Activation.sigmoid: nn.sigmoid,
    Activation.tanh: nn.tanh,
    Activation.gelu: lambda x: nn.gelu(x, approximate=False),
}


def layer_kinds(model: nn.Module, inputs: jax.ShapeDtypeStruct) -> dict[str, LayerKind]:
    """Canonical layer name to layer kind, for every layer that has parameters.

    Args:
        model: not yet bound to parameters.
        inputs: shape and type of a batch.
    """
    kinds: dict[str, LayerKind] = {}

    def note(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        kind = KINDS.get(type(context.module))
        if kind is not None:
            kinds[".".join(context.module.path)] = kind
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        jax.eval_shape(model.init, jax.random.key(0), inputs)
    return kinds


def flatten(x: jax.Array) -> jax.Array:
    """`[batch, height, width, channels]` to `[batch, features]`, in torch's order: channels first.

    Only here: torch's own `flatten` has that order.
    """
    if x.ndim == 4:
        x = jnp.transpose(x, (0, 3, 1, 2))
    return x.reshape(x.shape[0], -1)
