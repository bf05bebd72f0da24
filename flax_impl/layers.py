"""The kinds of layers, and the pieces that models are built of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from flax_impl.norms import BatchNorm, LayerNorm
from pipeline.config import Activation


@dataclass(frozen=True)
class Leaf:
    """How one array of a kind of layer is called and laid out canonically.

    Only here, with `LayerKind` and `Place`: canonical names and layouts are torch's own.

    Args:
        role: its canonical name in the layer (`weight`).
        kernel: whether its axes are Flax's (…, in, out), which are (out, in, …) canonically.
        inputs: how many of a kernel's first axes together are the input; the others are the output.
        part: the how-maniest part it is of the canonical array, along the first axis.
        parts: that the canonical array has.
        kind: of layer, where that is not the one that the table says.
    """

    role: str
    kernel: bool = False
    inputs: int | None = None
    part: int = 0
    parts: int = 1
    kind: str | None = None


@dataclass(frozen=True)
class LayerKind:
    """The arrays of a kind of layer, by Flax's names.

    Args:
        name: of the kind.
        parameters: Flax's name to canonical leaf.
        buffers: the same for batch statistics.
    """

    name: str
    parameters: dict[str, Leaf]
    buffers: dict[str, Leaf] = field(default_factory=dict)


KERNEL = {"kernel": Leaf("weight", kernel=True), "bias": Leaf("bias")}
AFFINE = {"scale": Leaf("weight"), "bias": Leaf("bias")}
STATISTICS = {"mean": Leaf("running_mean"), "var": Leaf("running_var")}
# Query, key and value lie one after the other in torch's one matrix; heads are an axis in Flax only.
ATTENTION = {
    f"{name}.{array}": leaf
    for part, name in enumerate(("query", "key", "value"))
    for array, leaf in {
        "kernel": Leaf("in_proj_weight", kernel=True, inputs=1, part=part, parts=3),
        "bias": Leaf("in_proj_bias", part=part, parts=3),
    }.items()
} | {
    "out.kernel": Leaf("out_proj.weight", kernel=True, inputs=2, kind="linear"),
    "out.bias": Leaf("out_proj.bias", kind="linear"),
}

# Parameters, gradients and optimizer slots of a layer are translated by its kind.
KINDS: dict[type[nn.Module], LayerKind] = {
    nn.Dense: LayerKind("linear", KERNEL),
    nn.Conv: LayerKind("conv", KERNEL),
    nn.ConvTranspose: LayerKind("conv_transpose", KERNEL),  # made with transpose_kernel=True
    nn.Embed: LayerKind("embedding", {"embedding": Leaf("weight")}),
    nn.LayerNorm: LayerKind("norm", AFFINE),
    nn.GroupNorm: LayerKind("norm", AFFINE),
    nn.RMSNorm: LayerKind("norm", AFFINE),
    nn.InstanceNorm: LayerKind("norm", AFFINE),
    nn.BatchNorm: LayerKind("norm", AFFINE, STATISTICS),
    BatchNorm: LayerKind("norm", AFFINE, STATISTICS),
    LayerNorm: LayerKind("norm", AFFINE),
    nn.MultiHeadDotProductAttention: LayerKind("attention", ATTENTION),
}

ACTIVATIONS: dict[Activation, Callable[[jax.Array], jax.Array]] = {
    Activation.relu: nn.relu,
    Activation.sigmoid: nn.sigmoid,
    Activation.tanh: nn.tanh,
    Activation.gelu: lambda x: nn.gelu(x, approximate=False),
    Activation.gelu_tanh: lambda x: nn.gelu(x, approximate=True),
}


@dataclass(frozen=True)
class Place:
    """Where an array of a Flax model lies canonically.

    Args:
        name: canonical (`conv1.weight`).
        kind: of its layer.
        collection: of Flax's that it is in, `params` or `batch_stats`.
        shape: in Flax's layout.
        leaf: how it is transposed.
    """

    name: str
    kind: str
    collection: str
    shape: tuple[int, ...]
    leaf: Leaf

    def canonical(self, array: np.ndarray) -> np.ndarray:
        """A copy of an array of Flax's, in the canonical layout."""
        return np.array(np.transpose(np.reshape(array, self.folded), self.axes), order="C")

    def native(self, array: np.ndarray) -> np.ndarray:
        """A copy of a canonical array, in Flax's layout; the inverse of `canonical`."""
        rows = np.split(array, self.leaf.parts)[self.leaf.part] if self.leaf.parts > 1 else array
        return np.array(np.transpose(rows, np.argsort(self.axes)), order="C").reshape(self.shape)

    @property
    def folded(self) -> tuple[int, ...]:
        """The shape with the heads of an attention, an axis in Flax only, folded away."""
        inputs = self.leaf.inputs
        if inputs is not None:
            return prod(self.shape[:inputs]), prod(self.shape[inputs:])
        return (prod(self.shape),) if self.leaf.parts > 1 else self.shape

    @property
    def axes(self) -> tuple[int, ...]:
        """The permutation from the folded shape to the canonical layout."""
        rank = len(self.folded)
        if self.leaf.kernel:
            return rank - 1, rank - 2, *range(rank - 2)
        return tuple(range(rank))


Layout = dict[tuple[str, ...], Place]  # by the path in Flax's trees


def layer_kinds(layout: Layout) -> dict[str, str]:
    """Canonical layer name to layer kind, for every layer that has parameters.

    Args:
        layout: of the model.
    """
    return {place.name.rpartition(".")[0]: place.kind for place in layout.values()}


def layout_of(model: nn.Module, inputs: jax.ShapeDtypeStruct) -> Layout:
    """Where every parameter and batch statistic of a model lies canonically.

    An array of a module that is not in `KINDS` is the module's own: it keeps its name and layout.
    Only here: canonical names and layouts are torch's own.

    Args:
        model: not yet bound to parameters.
        inputs: shape and type of a batch.
    """
    kinds: dict[tuple[str, ...], LayerKind] = {}

    def note(call: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        if type(context.module) in KINDS:
            kinds.setdefault(context.module.path, KINDS[type(context.module)])
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
    layout = {
        path: _place(path, kinds, collection, array.shape)
        for collection in ("params", "batch_stats")
        for path, array in flatten_dict(variables.get(collection, {})).items()
    }
    # Parts of one array in their order, which the names do not have: key, query, value.
    return dict(sorted(layout.items(), key=lambda item: item[1].leaf.part))


def _place(
    path: tuple[str, ...],
    kinds: dict[tuple[str, ...], LayerKind],
    collection: str,
    shape: tuple[int, ...],
) -> Place:
    """Of the innermost layer around a leaf that knows it."""
    for depth in range(len(path) - 1, -1, -1):
        kind = kinds.get(path[:depth])
        leaf = (kind.parameters | kind.buffers).get(".".join(path[depth:])) if kind else None
        if leaf is not None:
            name, kind_name = ".".join((*path[:depth], leaf.role)), leaf.kind or kind.name
            return Place(name, kind_name, collection, shape, leaf)
    return Place(".".join(path), "own", collection, shape, Leaf(path[-1]))


def flatten(x: jax.Array) -> jax.Array:
    """`[batch, height, width, channels]` to `[batch, features]`, in torch's order: channels first.

    Only here: torch's own `flatten` has that order.
    """
    if x.ndim == 4:
        x = jnp.transpose(x, (0, 3, 1, 2))
    return x.reshape(x.shape[0], -1)
