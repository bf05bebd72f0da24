"""Weights of a layer, drawn for torch's and carried into that of another framework."""

from collections.abc import Mapping, Sequence
from zlib import crc32

import jax
import numpy as np
from torch import nn

Weights = dict[str, np.ndarray]
Shaped = jax.Array | jax.ShapeDtypeStruct
GATES = {nn.LSTM: "ifgo", nn.GRU: "rzn", nn.RNN: "h"}
# Owners of weights, by what linen, NNX and Equinox call them, as `split` names them.
OWNERS = {
    **dict.fromkeys(("query", "query_proj"), "query"),
    **dict.fromkeys(("key", "key_proj"), "key"),
    **dict.fromkeys(("value", "value_proj"), "value"),
    **dict.fromkeys(("out", "output_proj"), "out"),
    **{name: name for gate in "ifgorzn" for name in (f"i{gate}", f"h{gate}")},
    **{"if_": "if", "in": "in", "i": "ih", "h": "hh", "dense_i": "dense_i", "dense_h": "dense_h"},
}


def draw(module: nn.Module, seed: int) -> Weights:
    """Draw parameters for a layer of torch, by its names."""
    return {
        name: np.random.default_rng([seed, crc32(name.encode())]).normal(size=tuple(tensor.shape))
        for name, tensor in module.named_parameters()
    }


def split(module: nn.Module, weights: Weights) -> Weights:
    """Divide the weights of attention and recurrent layers as any of the frameworks divides them."""
    if isinstance(module, nn.MultiheadAttention):
        found = {f"out.{kind}": weights[f"out_proj.{kind}"] for kind in ("weight", "bias")}
        for kind in ("weight", "bias"):
            parts = np.split(weights[f"in_proj_{kind}"], 3)
            found |= {
                f"{n}.{kind}": a for n, a in zip(("query", "key", "value"), parts, strict=True)
            }
        return found
    gates = next((gates for kind, gates in GATES.items() if isinstance(module, kind)), "")
    return _recurrent(weights, gates) if gates else weights


def _recurrent(weights: Weights, gates: str) -> Weights:
    """Weights by gate and stacked; one bias, except that of GRU's candidate inside the reset gate."""
    both = {side: weights[f"bias_{side}_l0"].copy() for side in ("ih", "hh")}
    inside = np.zeros_like(both["hh"])
    if gates == "rzn":
        inside[-len(inside) // 3 :] = both["hh"][-len(inside) // 3 :]
    bias = both["ih"] + both["hh"] - inside
    w_ih, w_hh = weights["weight_ih_l0"], weights["weight_hh_l0"]
    found = {
        "weight_ih": w_ih, "weight_hh": w_hh, "bias": bias, "bias_n": inside[-len(inside) // 3 :],
        "dense_i.weight": w_ih, "dense_h.weight": w_hh, "dense_i.bias": bias, "dense_h.bias": bias,
        "ih.weight": w_ih, "hh.weight": w_hh, "ih.bias": bias,
    }  # fmt: skip
    if gates == "rzn":
        found["dense_h.bias"] = inside
    for index, gate in enumerate(gates):
        rows = slice(index * len(bias) // len(gates), (index + 1) * len(bias) // len(gates))
        found |= {f"i{gate}.weight": w_ih[rows], f"h{gate}.weight": w_hh[rows]}
        # linen has the one bias at the recurrent matrix in an LSTM, and at the input's in a GRU.
        found |= {
            f"i{gate}.bias": bias[rows],
            f"h{gate}.bias": (bias, inside)[gates == "rzn"][rows],
        }
    return found


def name_of(path: Sequence[str]) -> str:
    """Name of a parameter as in `split`, from its path in linen, NNX or Equinox."""
    kind = "weight" if path[-1] in ("kernel", "scale", "embedding", "negative_slope") else path[-1]
    owner = OWNERS.get(path[-2], "") if len(path) > 1 and kind in ("weight", "bias") else ""
    return f"{owner}.{kind}" if owner else kind


def to_flax(weights: Mapping[str, np.ndarray], path: Sequence[str], like: Shaped) -> np.ndarray:
    """Weights of a parameter of linen or NNX, in its layout and of the shape of `like`."""
    array = weights[name_of(path)]
    if path[-1] == "kernel":
        spatial = tuple(range(2, array.ndim))
        array = array.transpose(*spatial, 1, 0)
        if array.ndim > 2 and array.shape != like.shape:  # of a transposed convolution, unflipped
            array = array.swapaxes(-1, -2)
    return array.reshape(like.shape)
