"""Kinds of Equinox's layers; their arrays are laid out as torch's."""

from collections.abc import Callable
from functools import cache
from typing import Any

from flax_impl.layers import Kind, Leaf
from pipeline.storage.portable_state import COUNTER

# Flag of a batch norm that has seen no batch yet.
FIRST = "ema_first_time_index"

WEIGHTS = {"weight": Leaf("weight"), "bias": Leaf("bias")}
CONVOLUTION = {"weight": Leaf("weight"), "bias": Leaf("bias", flat=True)}
TRANSPOSED = {"weight": Leaf("weight", turned=True), "bias": Leaf("bias", flat=True)}
NORM = WEIGHTS | {
    "running_mean": Leaf("running_mean"),
    "running_var": Leaf("running_var"),
    "batch_counter": Leaf(COUNTER),
    FIRST: Leaf(COUNTER),
}
ATTENTION = {
    f"{name}_proj.{array}": Leaf(f"in_proj_{array}", part=part, parts=3)
    for part, name in enumerate(("query", "key", "value"))
    for array in ("weight", "bias")
} | {
    "output_proj.weight": Leaf("out_proj.weight", kind="linear"),
    "output_proj.bias": Leaf("out_proj.bias", kind="linear"),
}


def kind_of(layer: Any) -> Kind | None:
    """Return the kind of a layer of Equinox.

    None of a layer that torch has not, and of several that are stacked in one: their arrays stay as they are.
    """
    return next((kind(layer) for types, kind in _kinds() if isinstance(layer, types)), None)


@cache
def _kinds() -> list[tuple[Any, Callable[[Any], Kind | None]]]:
    from equinox import nn

    return [
        (nn.Linear, lambda layer: ("linear", WEIGHTS) if _is_one(layer, 2) else None),
        (nn.Embedding, lambda layer: ("embedding", WEIGHTS) if _is_one(layer, 2) else None),
        (nn.Conv, _convolution),
        (nn.ConvTranspose, _transposed),
        ((nn.LayerNorm, nn.GroupNorm, nn.RMSNorm), _norm),
        (nn.BatchNorm, _norm),
        (nn.MultiheadAttention, _attention),
    ]


def _is_one(layer: Any, axes: int) -> bool:
    """False for several layers in one, whose weights have an axis more; a tied weight is elsewhere."""
    return getattr(layer.weight, "ndim", axes) == axes


def _convolution(layer: Any) -> Kind | None:
    return ("conv", CONVOLUTION) if _is_one(layer, 2 + layer.num_spatial_dims) else None


def _transposed(layer: Any) -> Kind | None:
    is_one = _is_one(layer, 2 + layer.num_spatial_dims) and layer.groups == 1
    return ("conv_transpose", TRANSPOSED) if is_one else None


def _norm(layer: Any) -> Kind | None:
    return ("norm", NORM) if _is_one(layer, len(getattr(layer, "shape", (1,)))) else None


def _attention(layer: Any) -> Kind | None:
    """One matrix for query, key and value is what torch has, if they are of one size."""
    projections = (layer.query_proj, layer.key_proj, layer.value_proj)
    shapes = {part.weight.shape for part in projections}
    biases = {part.use_bias for part in (*projections, layer.output_proj)}
    width = layer.query_size
    is_one = shapes == {(width, width)} and layer.output_size == width and len(biases) == 1
    return ("attention", ATTENTION) if is_one else None
