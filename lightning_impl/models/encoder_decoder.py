"""An encoder–decoder transformer (Vaswani et al. 2017) with GPT-2's blocks, and nanoGPT's names."""

import torch
import torch.nn.functional as F
from torch import nn

from lightning_impl.models.transformer import Block
from lightning_impl.norms import LayerNorm
from lightning_impl.randomness import Dropout
from pipeline.config.models import EncoderDecoderConfig
from pipeline.tasks.seq2seq import PADDING


class EncoderDecoder(nn.Module):
    """Blocks that read a source in both directions, and causal blocks that write a target and attend to it.

    Both sides and the output layer share the embeddings of tokens, both sides those of positions.
    """

    def __init__(
        self, config: EncoderDecoderConfig, input_shape: tuple[int, ...], outputs: int
    ) -> None:
        super().__init__()
        depth, width = config.depth, config.width
        self.wte = nn.Embedding(outputs, width)
        self.wpe = nn.Embedding(config.max_length or input_shape[0], width)
        self.encoder_drop = Dropout(config.dropout)
        self.encoder = nn.ModuleList(Block(config, causal=False) for _ in range(depth))
        self.encoder_norm = LayerNorm(width, config.norm_epsilon)
        self.decoder_drop = Dropout(config.dropout)
        self.decoder = nn.ModuleList(Block(config, causal=True, cross=True) for _ in range(depth))
        self.decoder_norm = LayerNorm(width, config.norm_epsilon)

    def forward(self, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Tokens `[batch, length]` and `[batch, length of target]` to logits.

        They are those of the tokens that follow in the target `[batch, length of target, outputs]`. The
        padding of a source is left out, unless it is nothing else.
        """
        seen = source != PADDING
        seen = (seen | ~seen.any(dim=-1, keepdim=True))[:, None, None]
        memory = self.encoder_drop(self.embed(source))
        for block in self.encoder:
            memory = block(memory, seen)
        memory = self.encoder_norm(memory)
        x = self.decoder_drop(self.embed(target))
        for block in self.decoder:
            x = block(x, seen, memory)
        return F.linear(self.decoder_norm(x), self.wte.weight)

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens `[batch, length]` to `[batch, length, width]`."""
        return self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device))
