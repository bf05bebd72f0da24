"""Layer kinds, canonical names and layouts, and layers that models share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from flax_impl.device import DType, PyTree
from flax_impl.norms import BatchNorm, GroupNorm, LayerNorm
from pipeline.config.experiment import Config
from pipeline.config.models import Activation
from pipeline.config.optimizers import LambConfig
from pipeline.errors import UserError
from pipeline.rng import key_words
from pipeline.storage.portable_state import Arrays
from pipeline.training.param_groups import ParamGroup
from pipeline.verify.names.names_file import NamesFile
from pipeline.verify.names.notation import Block, Reshape, Step, Transform, Transpose
from pipeline.verify.names.pieces import Piece, pieces_of


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

    def piece(
        self, layer: tuple[str, ...], kind: str, path: tuple[str, ...], shape: tuple[int, ...]
    ) -> Piece:
        """Return the canonical piece that an array of a layer is."""
        folded = shape
        if self.inputs is not None:  # only Flax has an axis for attention heads
            folded = prod(shape[: self.inputs]), prod(shape[self.inputs :])
        elif self.parts > 1:
            folded = (prod(shape),)
        rank = len(folded)
        steps: list[Step] = [Reshape(folded)] if folded != shape else []
        if self.kernel:
            steps.append(Transpose((rank - 1, rank - 2, *range(rank - 2))))
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
class _Place:
    """Canonical names, layer kinds and layout of an array of a Flax model.

    `collection` is Flax's, `params` or `batch_stats`; `shape` is in Flax's layout. An array is one piece,
    unless a names file divides it.
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


class Adapted(nn.Module):
    """A module of another library as a linen module.

    Only here: torch has one kind of module.
    """

    def kinds(self) -> dict[tuple[str, ...], type[nn.Module]]:
        """Return the linen layers that its own are like, by path."""
        raise NotImplementedError


Layout = dict[tuple[str, ...], _Place]  # by the path in Flax's trees


def layer_kinds(layout: Layout) -> dict[str, str]:
    """Map canonical layer names to layer kinds, for every layer with parameters."""
    pieces = (piece for place in layout.values() for piece in place.pieces)
    return {piece.name.rpartition(".")[0]: piece.kind for piece in pieces}


def layout_of(
    model: nn.Module, *inputs: jax.ShapeDtypeStruct, names: NamesFile | None = None
) -> Layout:
    """Map every parameter and running statistic of a model to its canonical name and layout.

    An array of a module that is not in `KINDS` keeps its name and layout, unless `names` gives it others.
    Only here: canonical names and layouts are torch's own. `inputs` have the shapes and dtypes of a batch.

    Raises:
        UserError: the names do not fit the model.
    """
    kinds: dict[tuple[str, ...], type[nn.Module]] = {}

    def note(
        call: Callable, args: tuple, kwargs: dict, context: nn.module.InterceptorContext
    ) -> object:
        if type(context.module) in KINDS:
            kinds.setdefault(context.module.path, type(context.module))
        return call(*args, **kwargs)

    def piece(path: tuple[str, ...], shape: tuple[int, ...]) -> Piece:
        # By the innermost layer of a known kind around the array.
        for depth in range(len(path) - 1, -1, -1):
            kind, leaves = KINDS[kinds[path[:depth]]] if path[:depth] in kinds else ("", {})
            if leaf := leaves.get(".".join(path[depth:])):
                return leaf.piece(path[:depth], kind, path, shape)
        return _Leaf(path[-1]).piece(path[:-1], "own", path, shape)

    with nn.intercept_methods(note):
        make = partial(jax.eval_shape, model.init, jax.random.key(0))
        variables = _in_its_types(make, inputs)
    if isinstance(model, Adapted):
        kinds |= model.kinds()
    layout = {
        path: _Place(collection, array.shape, (piece(path, array.shape),))  # pyrefly: ignore[missing-attribute] no empty nodes
        for collection in ("params", "batch_stats")
        for path, array in flatten_dict(variables.get(collection, {})).items()
    }
    return _renamed(layout, names) if names else layout


def initial_variables(
    model: nn.Module, inputs: Sequence[jax.ShapeDtypeStruct], seed: int
) -> PyTree:
    """Return the variables that a model makes itself, from the seed.

    Only here: a torch model is made with them.
    """
    key = jax.random.key(key_words(seed, "weights")[0])

    def make(*inputs: jax.ShapeDtypeStruct) -> PyTree:
        return jax.jit(model.init)(key, *(jnp.zeros(x.shape, x.dtype) for x in inputs))

    return nn.meta.unbox(_in_its_types(make, inputs))


def _in_its_types(make: Callable[..., PyTree], inputs: Sequence[jax.ShapeDtypeStruct]) -> PyTree:
    """Return `make(*inputs)`; in float32 if a model's own float32, as the carry of a scan, needs that."""
    try:
        return make(*inputs)
    except TypeError:
        if all(x.dtype != jnp.float64 for x in inputs):
            raise
        return make(*map(_in_float32, inputs))


def _in_float32(x: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(x.shape, jnp.float32 if x.dtype == jnp.float64 else x.dtype)


def _renamed(layout: Layout, names: NamesFile) -> Layout:
    """Return the layout with the pieces that a names file gives; other arrays keep their own."""
    pieces = pieces_of(names, {".".join(path): place.shape for path, place in layout.items()})
    renamed = {}
    for path, place in layout.items():
        # A layer whose kind the file does not tell has that of Flax.
        found = pieces.get(".".join(path), place.pieces)
        known = tuple(replace(piece, kind=piece.kind or place.pieces[0].kind) for piece in found)
        renamed[path] = replace(place, pieces=known)
    taken = {piece.name for found in pieces.values() for piece in found}
    for path, place in layout.items():
        if ".".join(path) not in pieces and place.name in taken:
            problem = f"{place.name} is the name of {'.'.join(path)} already, which has no row"
            raise UserError(names.key, names.path, problem=problem, hint="Add a row for it.")
    return renamed


def check_groups(layout: Layout, groups: Mapping[str, ParamGroup], config: Config) -> None:
    """Refuse settings of the optimizer that a Flax array cannot have, if a names file divides or joins it.

    Only here: torch's parameters are the canonical ones.
    """
    by_norm = isinstance(config.optimizer, LambConfig)
    for path, place in layout.items():
        if place.collection != "params":
            continue
        names = list(dict.fromkeys(piece.name for piece in place.pieces))
        group, here = groups[names[0]], f"{'.'.join(path)} of the JAX model"
        for name in names[1:]:
            if groups[name] != group:
                problem = f"{names[0]} and {name} have different settings, but both are in {here}"
                hint = "Give them the same in train.frozen, optimizer.no_decay and optimizer.lr_factors."
                raise UserError("optimizer", config.optimizer.name, problem=problem, hint=hint)
        if (by_norm or group.matrix) and not group.frozen and not place.is_part(group.parts):
            problem = f"it updates {names[0]} as a whole, which {here} is not"
            hint = "Choose an optimizer that updates element by element, such as adamw."
            raise UserError("optimizer", config.optimizer.name, problem=problem, hint=hint)


def module_names(layout: Layout) -> dict[str, str]:
    """Map the Flax modules that are a canonical layer by themselves to its name.

    Their inputs and outputs have the order of features that torch's have. Only here: torch's modules have
    the canonical names.
    """
    layers: dict[str, set[str]] = {}
    modules: dict[str, set[str]] = {}
    for path, place in layout.items():
        module = ".".join(path[:-1])
        for piece in place.pieces:
            layer = piece.name.rpartition(".")[0]
            is_plain = piece.block.is_whole and piece.own.is_whole
            is_plain &= all(isinstance(step, Transpose) for step in piece.to_canonical.steps)
            layers.setdefault(module, set()).add(layer if is_plain else "")
            modules.setdefault(layer, set()).add(module)
    return {
        module: layer
        for module, found in layers.items()
        for layer in found - {""}
        if len(found) == len(modules[layer]) == 1
    }


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
