"""BERT (Devlin et al. 2018) with its head for hidden tokens, with nanoGPT's names."""

import torch
import torch.nn.functional as F
from torch import nn

from lightning_impl.layers import ACTIVATIONS
from lightning_impl.models.transformer import Block
from lightning_impl.norms import LayerNorm
from lightning_impl.randomness import Dropout
from pipeline.config.models import BERTConfig


class Head(nn.Module):
    """A dense layer, a norm, and an output layer tied to the token embedding, with a bias."""

    def __init__(self, config: BERTConfig, outputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)
        self.gelu = ACTIVATIONS[config.activation]()
        self.norm = LayerNorm(config.width, config.norm_epsilon)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        """`[batch, length, width]` and the table of embeddings to `[batch, length, outputs]`."""
        return F.linear(self.norm(self.gelu(self.dense(x))), table, self.bias)


class BERT(nn.Module):
    """Token and learned position embeddings, blocks that attend in both directions, and a head.

    Without the embeddings of two segments.
    """

    def __init__(self, config: BERTConfig, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.wte = nn.Embedding(outputs, config.width)
        self.wpe = nn.Embedding(config.max_length or input_shape[0], config.width)
        self.ln_e = LayerNorm(config.width, config.norm_epsilon)
        self.drop = Dropout(config.dropout)
        blocks = (Block(config, causal=False, norm_first=False) for _ in range(config.depth))
        self.h = nn.Sequential(*blocks)
        self.head = Head(config, outputs)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens `[batch, length]` to the logits of the tokens there `[batch, length, outputs]`."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.drop(self.ln_e(self.wte(tokens) + self.wpe(positions)))
        return self.head(self.h(x), self.wte.weight)
