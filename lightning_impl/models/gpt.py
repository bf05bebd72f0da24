"""GPT-2 (Radford et al. 2019), with nanoGPT's names."""

import torch
import torch.nn.functional as F
from torch import nn

from lightning_impl.models.transformer import Block
from lightning_impl.norms import LayerNorm
from lightning_impl.randomness import Dropout
from pipeline.config.models import GPTConfig


class GPT(nn.Module):
    """Token and learned position embeddings, blocks, and an output layer tied to the token embedding."""

    def __init__(self, config: GPTConfig, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.wte = nn.Embedding(outputs, config.width)
        self.wpe = nn.Embedding(config.max_length or input_shape[0], config.width)
        self.drop = Dropout(config.dropout)
        self.h = nn.Sequential(*(Block(config, causal=True) for _ in range(config.depth)))
        self.ln_f = LayerNorm(config.width, config.norm_epsilon)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens `[batch, length]` to the logits of the next tokens `[batch, length, outputs]`."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.drop(self.wte(tokens) + self.wpe(positions))
        return F.linear(self.ln_f(self.h(x)), self.wte.weight)
