"""Attention of several heads, as vision and language transformers share it."""

import torch
import torch.nn.functional as F
from torch import nn

from lightning_impl.randomness import Dropout


class Attention(nn.Module):
    """Scaled dot-product attention with dense layers before and after (Vaswani et al. 2017).

    Args:
        width: of a token.
        heads: that share the width.
        names: of the layer that makes queries, keys and values (in this order, one after the other),
            of the dropout on the attention, of the layer after it, and of the dropout after that.
        rates: of the two dropouts.
        causal: whether a token sees only itself and those before it.
        bias: whether the layers have one.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        names: tuple[str, str, str, str],
        rates: tuple[float, float],
        causal: bool = False,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.heads, self.names, self.causal = heads, names, causal
        layers = (
            nn.Linear(width, 3 * width, bias),
            Dropout(rates[0]),
            nn.Linear(width, width, bias),
            Dropout(rates[1]),
        )
        for name, layer in zip(names, layers, strict=True):
            self.add_module(name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, length, width]` to the same."""
        packed, drop, out, drop_out = (getattr(self, name) for name in self.names)
        batch, length, width = x.shape
        heads = packed(x).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # [batch, heads, length, width of a head]
        rate = drop.rate if self.training else 0.0
        if rate and drop.key is not None:  # masks that the other backend draws too
            mixed = attend(query, key, value, self.causal, drop)
        else:
            mixed = F.scaled_dot_product_attention(
                query, key, value, dropout_p=rate, is_causal=self.causal
            )
        return drop_out(out(mixed.transpose(1, 2).reshape(batch, length, width)))


def attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, causal: bool, drop: Dropout
) -> torch.Tensor:
    """softmax(QKᵀ / √d) V (Vaswani et al. 2017, equation 1), the softmax in float32 at least.

    Args:
        query: `[batch, heads, length, d]`, as are the others and the result.
        key: to compare with.
        value: to mix.
        causal: whether a token sees only itself and those before it.
        drop: of the softmax's numbers.
    """
    wide = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        scores = query.to(wide) @ key.to(wide).transpose(-2, -1) / query.shape[-1] ** 0.5
    if causal:
        length = query.shape[-2]
        seen = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
        scores = scores.masked_fill(~seen, -torch.inf)
    return drop(scores.softmax(-1)).to(value.dtype) @ value
