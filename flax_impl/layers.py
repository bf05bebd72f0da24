"""Layer kinds by module class, the layouts of their arrays, and layers that models share."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from flax_impl.device import DType
from flax_impl.norms import BatchNorm, GroupNorm, LayerNorm
from pipeline.config.models import Activation
from pipeline.storage.portable_state import Arrays
from pipeline.verify.names.notation import Block, Flip, Reshape, Step, Transform, Transpose
from pipeline.verify.names.pieces import Piece


@dataclass(frozen=True)
class Leaf:
    """Canonical name and layout of one array of a layer kind.

    Only here: canonical names and layouts are torch's own.
    """

    role: str  # canonical name in the layer (`weight`)
    kernel: bool = False  # a kernel: (…, in, out) in Flax, (out, in, …) canonically
    inputs: int | None = None  # leading kernel axes that form the input; the others form the output
    part: int = 0  # index of its block in the canonical array, along the first axis
    parts: int = 1  # blocks of the canonical array
    kind: str | None = None  # layer kind, if not the one in the table
    flat: bool = False  # one axis canonically, however many it has
    turned: bool = False  # (out, in, …), (in, out, …) canonically and from the other end

    def piece(
        self, layer: tuple[str, ...], kind: str, path: tuple[str, ...], shape: tuple[int, ...]
    ) -> Piece:
        """Return the canonical piece that an array of a layer is."""
        folded = shape
        if self.inputs is not None:  # only Flax has an axis for attention heads
            folded = prod(shape[: self.inputs]), prod(shape[self.inputs :])
        elif self.flat:
            folded = (prod(shape),)
        rank = len(folded)
        steps: list[Step] = [Reshape(folded)] if folded != shape else []
        if self.kernel:
            steps.append(Transpose((rank - 1, rank - 2, *range(rank - 2))))
        if self.turned:
            steps += [Transpose((1, 0, *range(2, rank))), Flip(tuple(range(2, rank)))]
        to_canonical = Transform(tuple(steps))
        name = ".".join((*layer, self.role))
        rows, *rest = to_canonical.shape_after(shape) or (1,)
        index = (slice(self.part * rows, (self.part + 1) * rows),) if self.parts > 1 else None
        return Piece(
            name=name,
            shape=(self.parts * rows, *rest) if folded else (),
            kind=self.kind or kind,
            block=Block(name, None, index),
            own=Block(".".join(path)),
            to_canonical=to_canonical,
            to_own=to_canonical.inverse(shape),
        )


KERNEL = {"kernel": Leaf("weight", kernel=True), "bias": Leaf("bias")}
NORM = {
    "scale": Leaf("weight"),
    "bias": Leaf("bias"),
    "mean": Leaf("running_mean"),
    "var": Leaf("running_var"),
}
# torch stacks query, key and value in one matrix; only Flax has an axis for the heads.
ATTENTION = {
    f"{name}.{array}": leaf
    for part, name in enumerate(("query", "key", "value"))
    for array, leaf in {
        "kernel": Leaf("in_proj_weight", kernel=True, inputs=1, part=part, parts=3),
        "bias": Leaf("in_proj_bias", flat=True, part=part, parts=3),
    }.items()
} | {
    "out.kernel": Leaf("out_proj.weight", kernel=True, inputs=2, kind="linear"),
    "out.bias": Leaf("out_proj.bias", kind="linear"),
}


class PositionEmbed(nn.Embed):
    """An embedding of positions 0, 1, …: the first rows of its table.

    Only here: the gradient of a lookup is a scatter, which sorts on a GPU.
    """

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """Positions `[length]`, counted from 0, to `[length, features]`."""
        return jnp.asarray(self.embedding, self.dtype)[: len(inputs)]


Kind = tuple[str, dict[str, Leaf]]

# A layer's kind determines how its parameters, gradients and optimizer slots are translated: its name, and
# its arrays by Flax's names, running statistics included.
KINDS: dict[type[nn.Module], Kind] = {
    nn.Dense: ("linear", KERNEL),
    nn.Conv: ("conv", KERNEL),
    nn.ConvTranspose: ("conv_transpose", KERNEL),  # made with transpose_kernel=True
    nn.Embed: ("embedding", {"embedding": Leaf("weight")}),
    PositionEmbed: ("embedding", {"embedding": Leaf("weight")}),
    nn.LayerNorm: ("norm", NORM),
    LayerNorm: ("norm", NORM),
    nn.GroupNorm: ("norm", NORM),
    GroupNorm: ("norm", NORM),
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
class Place:
    """Canonical names, layer kinds and layout of an array of a Flax model.

    `collection` is Flax's, `params` or `batch_stats`; `shape` is in Flax's layout. An array is one piece,
    unless a names file divides it. Only here: canonical names and layouts are torch's own.
    """

    collection: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]

    @property
    def name(self) -> str:
        """Canonical name of the array, or of its first piece."""
        return self.pieces[0].name

    def native(self, arrays: Arrays) -> np.ndarray:
        """Copy its blocks of canonical arrays to Flax's layout; `state.to_canonical` is the inverse."""
        first = self.pieces[0]
        if first.own.is_whole:
            return np.array(first.native(arrays[first.name]), order="C")
        array = np.empty(self.shape, arrays[first.name].dtype)
        for piece in self.pieces:
            piece.own.write(array, piece.native(arrays[piece.name]))
        return array

    def is_part(self, parts: int) -> bool:
        """True if it is a canonical array, or one of that many equal parts along its first axis."""
        piece = self.pieces[0]
        return piece.own.is_whole and prod(self.shape) * parts == prod(piece.shape)

    @property
    def transforms(self) -> tuple[Transform, Transform]:
        """Transforms of the array to its canonical layout, and back; of one that is a single piece."""
        return self.pieces[0].to_canonical, self.pieces[0].to_own


Layout = dict[tuple[str, ...], Place]  # by the path in Flax's trees


def layer_kinds(layout: Layout) -> dict[str, str]:
    """Map canonical layer names to layer kinds, for every layer with parameters."""
    pieces = (piece for place in layout.values() for piece in place.pieces)
    return {piece.name.rpartition(".")[0]: piece.kind for piece in pieces}


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


@jax.custom_vjp
def computed_once(x: jax.Array) -> jax.Array:
    """Return `x`, a sum in a chain of residual layers, whose gradient a CPU then computes once.

    XLA would compute it again for each layer before, from those of all layers after it: program and step
    would grow with the square of the depth. Only here: eager torch fuses nothing.
    """
    return x


def _whole_sum(gradient: jax.Array) -> jax.Array:
    """Return the gradient as a sum over a window, which XLA does not fuse."""
    padding = ((1, 0), *[(0, 0)] * gradient.ndim)
    window = (2, *[1] * gradient.ndim)
    ones, zero = (1,) * len(window), jnp.zeros((), gradient.dtype)
    return jax.lax.reduce_window(gradient[None], zero, jax.lax.add, window, ones, padding)[0]


computed_once.defvjp(
    lambda x: (x, None),
    lambda _, gradient: (
        jax.lax.platform_dependent(gradient, cpu=_whole_sum, default=lambda own: own),
    ),
)


def flatten(x: jax.Array) -> jax.Array:
    """Reshape `[batch, height, width, channels]` to `[batch, features]`, channels first as in torch.

    Only here: torch's own `flatten` has that order.
    """
    if x.ndim == 4:
        x = jnp.transpose(x, (0, 3, 1, 2))
    return x.reshape(x.shape[0], -1)


def max_pool(x: jax.Array, size: int, stride: int, padding: int = 0) -> jax.Array:
    """Maximum over square windows of `[batch, height, width, channels]`; of equal numbers the first.

    Only here: the gradient of XLA's own maximum over windows is a scatter, which sorts on a GPU, and takes
    4 to 5 times as long as this on a CPU.
    """
    around = (padding, padding)
    x = jnp.pad(x, ((0, 0), around, around, (0, 0)), constant_values=-jnp.inf)
    batch, height, width, channels = x.shape
    down, right = (stride * ((side - size) // stride) + 1 for side in (height, width))

    def window(row: int, column: int) -> jax.Array:
        end = (batch, row + down, column + right, channels)
        return jax.lax.slice(x, (0, row, column, 0), end, (1, stride, stride, 1))

    found = window(0, 0)
    for row, column in [*np.ndindex(size, size)][1:]:
        other = window(row, column)
        # `other != other` keeps a NaN, as both libraries do.
        found = jnp.where((other > found) | (other != other), other, found)
    return found
