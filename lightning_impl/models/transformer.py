"""Blocks of language transformers, with nanoGPT's names."""

from collections.abc import Callable

import torch
from torch import nn

from lightning_impl.layers import ACTIVATIONS
from lightning_impl.models.attention import Attention, CrossAttention
from lightning_impl.norms import LayerNorm
from lightning_impl.randomness import Dropout
from pipeline.config.models import TokenConfig

ATTENTION = ("c_attn", "attn_dropout", "c_proj", "resid_dropout")


class MLP(nn.Module):
    """Two dense layers on each token, with a hidden layer four times as wide."""

    def __init__(self, config: TokenConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.width, 4 * config.width, config.bias)
        self.gelu = ACTIVATIONS[config.activation]()
        self.c_proj = nn.Linear(4 * config.width, config.width, config.bias)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, length, width]` to the same."""
        return self.dropout(self.c_proj(self.gelu(self.c_fc(x))))


class Block(nn.Module):
    """Attention and MLP, each with a residual connection; see `residual` for `norm_first`.

    With `causal` a token attends only to itself and earlier ones. With `cross` another attention comes
    between, to a sequence of an encoder.
    """

    def __init__(
        self, config: TokenConfig, causal: bool, norm_first: bool = True, cross: bool = False
    ) -> None:
        super().__init__()
        rates = (config.dropout, config.dropout)
        self.norm_first, self.cross = norm_first, cross
        self.ln_1 = LayerNorm(config.width, config.norm_epsilon)
        self.attn = Attention(
            config.width,
            config.heads,
            ATTENTION,
            rates,
            causal,
            config.bias,
            config.attention,
        )
        if cross:
            self.ln_cross_attn = LayerNorm(config.width, config.norm_epsilon)
            self.crossattention = CrossAttention(
                config.width, config.heads, config.dropout, config.bias, config.attention
            )
        self.ln_2 = LayerNorm(config.width, config.norm_epsilon)
        self.mlp = MLP(config)

    def forward(
        self,
        x: torch.Tensor,
        seen: torch.Tensor | None = None,
        memory: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`[batch, length, width]` to the same.

        `memory` `[batch, other length, width]` is the sequence of the encoder, and `seen` tells which tokens
        of it (without one, of `x` itself) may be attended to, as in `attend`.
        """
        norm_first = self.norm_first
        x = residual(norm_first, self.ln_1, self.attn, x, None if self.cross else seen)
        if self.cross:
            x = residual(norm_first, self.ln_cross_attn, self.crossattention, x, memory, seen)
        return residual(norm_first, self.ln_2, self.mlp, x)


def residual(
    norm_first: bool, norm: Callable, layer: Callable, x: torch.Tensor, *others: torch.Tensor | None
) -> torch.Tensor:
    """Add a layer to `x`, with a norm before the layer as in GPT-2, or after the sum as in BERT."""
    return x + layer(norm(x), *others) if norm_first else norm(x + layer(x, *others))
