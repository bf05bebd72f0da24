"""The models in torch: channels first, query, key and value in one projection."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from verify_models import (
    DEPTH,
    DROPOUT,
    EPSILON,
    HEADS,
    HIDDEN,
    LATE_DROPOUT,
    LENGTH,
    MOMENTUM,
    OUTPUTS,
    PATCH,
    SIZE,
    VOCABULARY,
    WIDTH,
)  # fmt: skip


class CNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4, EPSILON, 1 - MOMENTUM)
        self.conv2 = nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(6, EPSILON, 1 - MOMENTUM)
        self.dropout = nn.Dropout(LATE_DROPOUT)
        self.fc = nn.Linear(6 * (SIZE // 4) ** 2, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.relu(self.bn2(self.conv2(x)))
        return self.fc(self.dropout(x.flatten(1)))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        heads = self.qkv(x).unflatten(-1, (3, HEADS, WIDTH // HEADS)).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(*heads, attn_mask=mask)
        return self.proj(x.transpose(1, 2).flatten(2))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(WIDTH, EPSILON), Attention()
        self.norm2 = nn.LayerNorm(WIDTH, EPSILON)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, WIDTH))
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.dropout(self.attn(self.norm1(x), mask))
        return x + self.dropout(self.mlp(self.norm2(x)))


class ViT(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.randn(1, (SIZE // PATCH) ** 2 + 1, WIDTH))
        self.patch_embed = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.blocks = nn.ModuleList(Block() for _ in range(depth))
        self.norm = nn.LayerNorm(WIDTH, EPSILON)
        self.head = nn.Linear(WIDTH, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class GPT(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.wte = nn.Embedding(VOCABULARY, WIDTH)
        self.wpe = nn.Embedding(LENGTH, WIDTH)
        self.h = nn.ModuleList(Block() for _ in range(depth))
        self.ln_f = nn.LayerNorm(WIDTH, EPSILON)
        self.lm_head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(
        self, tokens: Tensor, mask: Tensor, return_hidden: bool = False
    ) -> Tensor | dict[str, Tensor]:
        length = tokens.shape[1]
        x = self.wte(tokens) + self.wpe(torch.arange(length))
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        for block in self.h:
            x = block(x, causal & mask[:, None, None])
        x = self.ln_f(x)
        logits = self.lm_head(x)
        return {"logits": logits, "hidden": x} if return_hidden else logits


def cnn() -> nn.Module:
    return CNN()


def vit(depth: int = DEPTH) -> nn.Module:
    return ViT(depth)


def gpt(depth: int = DEPTH) -> nn.Module:
    return GPT(depth)
