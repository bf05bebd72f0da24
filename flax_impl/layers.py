"""Layer kinds, canonical names and layouts, and layers that models share."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from flax_impl.device import DType
from flax_impl.norms import BatchNorm, LayerNorm
from pipeline.config.models import Activation


@dataclass(frozen=True)
class _Leaf:
    """Canonical name and layout of one array of a layer kind.

    Only here, with `_Place`: canonical names and layouts are torch's own.
    """

    role: str  # canonical name in the layer (`weight`)
    kernel: bool = False  # a kernel: (…, in, out) in Flax, (out, in, …) canonically
    inputs: int | None = None  # leading kernel axes that form the input; the others form the output
    part: int = 0  # index of its block in the canonical array, along the first axis
    parts: int = 1  # blocks of the canonical array
    kind: str | None = None  # layer kind, if not the one in the table


KERNEL = {"kernel": _Leaf("weight", kernel=True), "bias": _Leaf("bias")}
NORM = {
    "scale": _Leaf("weight"),
    "bias": _Leaf("bias"),
    "mean": _Leaf("running_mean"),
    "var": _Leaf("running_var"),
}
# torch stacks query, key and value in one matrix; only Flax has an axis for the heads.
ATTENTION = {
    f"{name}.{array}": leaf
    for part, name in enumerate(("query", "key", "value"))
    for array, leaf in {
        "kernel": _Leaf("in_proj_weight", kernel=True, inputs=1, part=part, parts=3),
        "bias": _Leaf("in_proj_bias", part=part, parts=3),
    }.items()
} | {
    "out.kernel": _Leaf("out_proj.weight", kernel=True, inputs=2, kind="linear"),
    "out.bias": _Leaf("out_proj.bias", kind="linear"),
}

# A layer's kind determines how its parameters, gradients and optimizer slots are translated: its name, and
# its arrays by Flax's names, running statistics included.
KINDS: dict[type[nn.Module], tuple[str, dict[str, _Leaf]]] = {
    nn.Dense: ("linear", KERNEL),
    nn.Conv: ("conv", KERNEL),
    nn.ConvTranspose: ("conv_transpose", KERNEL),  # made with transpose_kernel=True
    nn.Embed: ("embedding", {"embedding": _Leaf("weight")}),
    nn.LayerNorm: ("norm", NORM),
    LayerNorm: ("norm", NORM),
    nn.GroupNorm: ("norm", NORM),
    nn.RMSNorm: ("norm", NORM),
    nn.InstanceNorm: ("norm", NORM),
    nn.BatchNorm: ("norm", NORM),
    BatchNorm: ("norm", NORM),
    nn.MultiHeadDotProductAttention: ("attention", ATTENTION),
}

ACTIVATIONS: dict[Activation, Callable[[jax.Array], jax.Array]] = {
    Activation.relu: nn.relu,
    Activation.sigmoid: nn.sigmoid,
    Activation.tanh: nn.tanh,
    Activation.gelu: lambda x: nn.gelu(x, approximate=False),
    Activation.gelu_tanh: lambda x: nn.gelu(x, approximate=True),
}


@dataclass(frozen=True)
class _Place:
    """Canonical name, layer kind and layout of an array of a Flax model.

    `collection` is Flax's, `params` or `batch_stats`; `shape` is in Flax's layout.
    """

    name: str
    kind: str
    collection: str
    shape: tuple[int, ...]
    leaf: _Leaf

    def canonical(self, array: np.ndarray) -> np.ndarray:
        """Copy a Flax array to the canonical layout."""
        return np.array(np.transpose(np.reshape(array, self.folded), self.axes), order="C")

    def native(self, array: np.ndarray) -> np.ndarray:
        """Copy a canonical array to Flax's layout; the inverse of `canonical`."""
        rows = np.split(array, self.leaf.parts)[self.leaf.part] if self.leaf.parts > 1 else array
        return np.array(np.transpose(rows, np.argsort(self.axes)), order="C").reshape(self.shape)

    @property
    def folded(self) -> tuple[int, ...]:
        """Shape without the axis of attention heads, which only Flax has."""
        inputs = self.leaf.inputs
        if inputs is not None:
            return prod(self.shape[:inputs]), prod(self.shape[inputs:])
        return (prod(self.shape),) if self.leaf.parts > 1 else self.shape

    @property
    def axes(self) -> tuple[int, ...]:
        """Permutation from the folded shape to the canonical layout."""
        rank = len(self.folded)
        if self.leaf.kernel:
            return rank - 1, rank - 2, *range(rank - 2)
        return tuple(range(rank))


Layout = dict[tuple[str, ...], _Place]  # by the path in Flax's trees


def layer_kinds(layout: Layout) -> dict[str, str]:
    """Map canonical layer names to layer kinds, for every layer with parameters."""
    return {place.name.rpartition(".")[0]: place.kind for place in layout.values()}


def layout_of(model: nn.Module, inputs: jax.ShapeDtypeStruct) -> Layout:
    """Map every parameter and running statistic of a model to its canonical name and layout.

    An array of a module that is not in `KINDS` keeps its name and layout. Only here: canonical names and
    layouts are torch's own. `inputs` has the shape and dtype of a batch.
    """
    kinds: dict[tuple[str, ...], type[nn.Module]] = {}

    def note(
        call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext
    ) -> object:
        if type(context.module) in KINDS:
            kinds.setdefault(context.module.path, type(context.module))
        return call(*args, **kwargs)

    def place(path: tuple[str, ...], collection: str, shape: tuple[int, ...]) -> _Place:
        # By the innermost layer of a known kind around the array.
        for depth in range(len(path) - 1, -1, -1):
            kind, leaves = KINDS[kinds[path[:depth]]] if path[:depth] in kinds else ("", {})
            if leaf := leaves.get(".".join(path[depth:])):
                name = ".".join((*path[:depth], leaf.role))
                return _Place(name, leaf.kind or kind, collection, shape, leaf)
        return _Place(".".join(path), "own", collection, shape, _Leaf(path[-1]))

    with nn.intercept_methods(note):
        variables = jax.eval_shape(model.init, jax.random.key(0), inputs)
    layout = {
        path: place(path, collection, array.shape)  # pyrefly: ignore[missing-attribute] no empty nodes
        for collection in ("params", "batch_stats")
        for path, array in flatten_dict(variables.get(collection, {})).items()
    }
    # Sort by block index; alphabetically, key would come before query.
    return dict(sorted(layout.items(), key=lambda item: item[1].leaf.part))


class TypedModule(nn.Module, kw_only=True):
    """A module with dtypes for its layers; torch converts a built model instead.

    `dtype` is that of products and convolutions, `param_dtype` that of parameters.
    """

    dtype: DType | None = None
    param_dtype: DType | None = None

    @property
    def types(self) -> dict[str, Any]:
        """`dtype` and `param_dtype` as keyword arguments."""
        return {"dtype": self.dtype, "param_dtype": self.param_dtype}


def flatten(x: jax.Array) -> jax.Array:
    """Reshape `[batch, height, width, channels]` to `[batch, features]`, channels first as in torch.

    Only here: torch's own `flatten` has that order.
    """
    if x.ndim == 4:
        x = jnp.transpose(x, (0, 3, 1, 2))
    return x.reshape(x.shape[0], -1)
