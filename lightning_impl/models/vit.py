"""The vision transformer (Dosovitskiy et al. 2021), with timm's names."""

import torch
from torch import nn

from lightning_impl.layers import ACTIVATIONS
from lightning_impl.models.attention import Attention
from lightning_impl.norms import LayerNorm
from lightning_impl.randomness import Dropout, DropPath
from pipeline.config.models import Activation, Pool, ViTConfig
from pipeline.training.model_checks import drop_path_rates, feature_map

# Dropout follows every dense layer but the query-key-value one (Dosovitskiy et al. 2021, B.1).
ATTENTION = ("qkv", "attn_drop", "proj", "proj_drop")


class PatchEmbed(nn.Module):
    """Embedding of image patches: a convolution whose stride is its size."""

    def __init__(self, config: ViTConfig, channels: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, config.width, config.patch, stride=config.patch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, channels, height, width]` to `[batch, patches, width]`, row by row."""
        return self.proj(x).flatten(2).transpose(1, 2)


class MLP(nn.Module):
    """Two dense layers on each token, with a hidden layer four times as wide."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, 4 * config.width)
        self.act = ACTIVATIONS[Activation.gelu]()
        self.drop1 = Dropout(config.dropout)
        self.fc2 = nn.Linear(4 * config.width, config.width)
        self.drop2 = Dropout(config.dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, length, width]` to the same."""
        return self.drop2(self.fc2(self.drop1(self.act(self.fc1(x)))))


class Block(nn.Module):
    """Attention and MLP, each with pre-normalisation and a residual connection.

    `drop_path` is the probability that a sample skips a layer.
    """

    def __init__(self, config: ViTConfig, drop_path: float) -> None:
        super().__init__()
        self.norm1 = LayerNorm(config.width, config.norm_epsilon)
        rates = (0.0, config.dropout)
        self.attn = Attention(config.width, config.heads, ATTENTION, rates, kernel=config.attention)
        self.drop_path1 = DropPath(drop_path)
        self.norm2 = LayerNorm(config.width, config.norm_epsilon)
        self.mlp = MLP(config)
        self.drop_path2 = DropPath(drop_path)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, length, width]` to the same."""
        x = x + self.drop_path1(self.attn(self.norm1(x)))
        return x + self.drop_path2(self.mlp(self.norm2(x)))


class ViT(nn.Module):
    """Patch and learned position embeddings, blocks, and a dense layer on the class token or the mean.

    With the mean there is no class token: timm's `class_token=False, global_pool="avg", fc_norm=False`.
    """

    def __init__(self, config: ViTConfig, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        rows, columns = feature_map(config, input_shape)
        self.token = config.pool is Pool.token
        if self.token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, self.token + rows * columns, config.width))
        self.patch_embed = PatchEmbed(config, input_shape[2])
        self.pos_drop = Dropout(config.dropout)
        self.blocks = nn.Sequential(*(Block(config, rate) for rate in drop_path_rates(config)))
        self.norm = LayerNorm(config.width, config.norm_epsilon)
        self.head = nn.Linear(config.width, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[batch, channels, height, width]` to `[batch, outputs]`."""
        x = self.patch_embed(x)
        if self.token:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        x = self.norm(self.blocks(self.pos_drop(x + self.pos_embed)))
        return self.head(x[:, 0] if self.token else x.mean(1))
