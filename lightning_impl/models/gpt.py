"""GPT-2 (Radford et al. 2019), with nanoGPT's names."""

import torch
import torch.nn.functional as F
from torch import nn

from lightning_impl.layers import ACTIVATIONS
from lightning_impl.models.attention import Attention
from lightning_impl.norms import LayerNorm
from lightning_impl.randomness import Dropout
from pipeline.config.models import Activation, GPTConfig

ATTENTION = ("c_attn", "attn_dropout", "c_proj", "resid_dropout")


class MLP(nn.Module):
    """Two dense layers on each token, with a hidden layer four times as wide."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.width, 4 * config.width, config.bias)
        self.gelu = ACTIVATIONS[Activation.gelu_tanh]()
        self.c_proj = nn.Linear(4 * config.width, config.width, config.bias)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, length, width]` to the same."""
        return self.dropout(self.c_proj(self.gelu(self.c_fc(x))))


class Block(nn.Module):
    """Causal attention and MLP, each with pre-normalisation and a residual connection."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        rates = (config.dropout, config.dropout)
        self.ln_1 = LayerNorm(config.width, config.norm_epsilon)
        self.attn = Attention(config.width, config.heads, ATTENTION, rates, True, config.bias)
        self.ln_2 = LayerNorm(config.width, config.norm_epsilon)
        self.mlp = MLP(config)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, length, width]` to the same."""
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    """Token and learned position embeddings, blocks, and an output layer tied to the token embedding."""

    def __init__(self, config: GPTConfig, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.wte = nn.Embedding(outputs, config.width)
        self.wpe = nn.Embedding(config.max_length or input_shape[0], config.width)
        self.drop = Dropout(config.dropout)
        self.h = nn.Sequential(*(Block(config) for _ in range(config.depth)))
        self.ln_f = LayerNorm(config.width, config.norm_epsilon)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens `[batch, length]` to the logits of the next tokens `[batch, length, outputs]`."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.drop(self.wte(tokens) + self.wpe(positions))
        return F.linear(self.ln_f(self.h(x)), self.wte.weight)
