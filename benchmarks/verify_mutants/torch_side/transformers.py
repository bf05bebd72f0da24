"""Transformers in torch: vit, gpt, bert, llama, t5."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from benchmarks.verify_mutants.settings import (
    CLASSES,
    DEPTH,
    HEADS,
    POSITIONS,
    VOCABULARY,
    WIDTH,
    Plan,
    Settings,
)
from benchmarks.verify_mutants.torch_side.attention import Attention, causal_mask, padding_mask
from benchmarks.verify_mutants.torch_side.layers import (
    GatedMlp,
    Mlp,
    Norm,
    cross_entropy,
    drop,
    lookup,
    stop,
)

PATCH, DISTANCE = 4, 3  # distances beyond share a relative position


class Block(nn.Module):
    """Attention and a multilayer perceptron, each with a residual connection and a norm."""

    def __init__(
        self,
        s: Settings,
        bias: bool = True,
        rope: bool = False,
        gated: bool = False,
        cross: bool = False,
    ) -> None:
        super().__init__()
        self.s = s
        parts: dict[str, Callable[[], nn.Module]] = {
            "norm1": lambda: Norm(WIDTH, s),
            "attn": lambda: Attention(s, bias, rope),
            "norm2": lambda: Norm(WIDTH, s),
            "mlp": lambda: GatedMlp(s) if gated else Mlp(s),
        }
        if cross:
            parts |= {"norm3": lambda: Norm(WIDTH, s), "cross": lambda: Attention(s, bias)}
        for name in reversed(parts) if s.definition == "reversed" else parts:
            setattr(self, name, parts[name]())
        if s.unused:
            self.adapter = nn.Linear(WIDTH, WIDTH)

    def forward(
        self,
        x: Tensor,
        visible: Tensor | None = None,
        bias: Tensor | None = None,
        memory: Tensor | None = None,
        memory_visible: Tensor | None = None,
    ) -> Tensor:
        """`[batch, length, width]` to the same; `memory` is read between the two parts."""
        if self.s.order == "parallel":
            y = self.attn(self.norm1(x), visible, bias=bias) + self.mlp(self.norm2(x))
            return x + drop(y, "branch", self.s, self.training)
        x = self._branch(x, self.norm1, lambda y: self.attn(y, visible, bias=bias))
        if memory is not None:
            x = self._branch(x, self.norm3, lambda y: self.cross(y, memory_visible, memory))
        return self._branch(x, self.norm2, self.mlp)

    def _branch(self, x: Tensor, norm: nn.Module, layer: Callable[[Tensor], Tensor]) -> Tensor:
        s = self.s
        if s.norm_place == "input":
            x = norm(x)
        y = layer(norm(x) if s.norm_place == "pre" else x)
        y = stop(drop(y, "branch", s, self.training), "branch", s)
        if s.gradient_factor != 1:
            y = s.gradient_factor * y + (1 - s.gradient_factor) * y.detach()
        if "residual" not in s.missing:
            y = s.residual_factor * stop(x, "residual", s) + y
        y = drop(y, "sum", s, self.training)
        return norm(y) if s.norm_place == "post" else y


def make_blocks(plan: Plan, count: int = DEPTH, **keywords: bool) -> nn.ModuleList:
    """Blocks of a model; what the settings call shared is that of the first block."""
    blocks = nn.ModuleList([Block(plan.block(index), **keywords) for index in range(count)])
    for block in blocks:
        for name in plan.whole.shared:
            setattr(block, name, getattr(blocks[0], name))
    return blocks


def pooled(x: Tensor, s: Settings, mask: Tensor | None = None) -> Tensor:
    """One vector of a sequence `[batch, length, width]`."""
    if s.pool == "masked mean" and mask is not None:
        weights = mask.to(x.dtype)[..., None]
        return (x * weights).sum(1) / weights.sum(1)
    results = {"first": lambda: x[:, 0], "last": lambda: x[:, -1], "sum": lambda: x.sum(1),
               "max": lambda: x.amax(1), "mean": lambda: x.mean(1)}  # fmt: skip
    return results[s.pool]()


class Vit(nn.Module):
    """A vision transformer (Dosovitskiy et al. 2021)."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.s = s = plan.whole
        self.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.randn(1, 5, WIDTH))
        self.patch_embed = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.layers = make_blocks(plan)
        self.norm = Norm(WIDTH, s)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Images `[batch, 3, 8, 8]` to logits."""
        s = self.s
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        token = self.cls_token.expand(len(x), -1, -1)
        if "late positions" in s.extra:  # the token gets none
            x = torch.cat([token, x + self.pos_embed[:, 1:]], 1)
        else:
            x = torch.cat([token, x], 1) + stop(self.pos_embed, "positions", s)
        x = drop(stop(x, "embedding", s), "embedding", s, self.training)
        for block in self.layers:
            x = block(x)
        if "final norm" not in s.missing:
            x = self.norm(x)
        return self.head(drop(pooled(x, s), "head", s, self.training))


class Gpt(nn.Module):
    """A causal language model with a tied head (Radford et al. 2019), and its loss."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.s = s = plan.whole
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(POSITIONS, WIDTH)
        self.layers = make_blocks(plan)
        self.norm = Norm(WIDTH, s)
        if not s.tied:
            self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, ids: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Tokens and labels `[batch, length]` to logits and the loss of the next tokens."""
        s = self.s
        visible = None if "mask" in s.missing else causal_mask(ids.shape[1], s)
        places = torch.arange(ids.shape[1]) + s.first_position
        places = places.clamp(max=s.last_position)
        tokens = lookup(self.tokens.weight, ids, s) * s.embedding_scale
        x = stop(tokens, "embedding", s) + lookup(self.positions.weight, places, s)
        x = drop(x, "embedding", s, self.training)
        for block in self.layers:
            x = checkpoint(block, x, visible, use_reentrant=False) if s.remat else block(x, visible)
        if "final norm" not in s.missing:
            x = self.norm(x)
        if "minus batch mean" in s.extra:
            x = x - x.mean(0)
        table = self.tokens.weight if s.tied else self.head.weight
        logits = s.head_scale * (x @ stop(table, "head", s).T)
        if s.loss == "unshifted":
            return {"logits": logits, "loss": cross_entropy(logits, labels, s)}
        return {"logits": logits, "loss": cross_entropy(logits[:, :-1], labels[:, 1:], s)}


class Bert(nn.Module):
    """An encoder with padding and segments (Devlin et al. 2019), its pooler and a classifier."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.s = s = plan.whole
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(POSITIONS, WIDTH)
        self.segments = nn.Embedding(2, WIDTH)
        self.norm = Norm(WIDTH, s)
        self.layers = make_blocks(plan)
        self.pooler = nn.Linear(WIDTH, WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, ids: Tensor, mask: Tensor, segments: Tensor) -> dict[str, Tensor]:
        """Tokens, mask of tokens and segments `[batch, length]` to hidden states and logits."""
        s = self.s
        visible = padding_mask(mask, s)
        places = torch.arange(ids.shape[1]) + s.first_position
        places = places.clamp(max=s.last_position)[None]
        if "positions from mask" in s.extra:  # padding does not count
            places = (mask.cumsum(1) - 1).clamp(min=0)
        if "segments" in s.missing:
            segments = torch.zeros_like(segments)
        segment = lookup(self.segments.weight, segments, s)
        x = lookup(self.tokens.weight, ids, s) + lookup(self.positions.weight, places, s)
        x = self.norm(x) + segment if s.order == "segments last" else self.norm(x + segment)
        x = drop(stop(x, "embedding", s), "embedding", s, self.training)
        for block in self.layers:
            x = block(x, visible)
        y = pooled(x, s, mask)
        if "pooler" not in s.missing:
            y = torch.tanh(self.pooler(y))
        return {"hidden": x, "logits": self.head(drop(y, "head", s, self.training))}


class Llama(nn.Module):
    """A causal language model with root mean squares, rotary positions and grouped keys."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.s = s = plan.whole
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = make_blocks(plan, bias=False, rope=True, gated=True)
        self.norm = Norm(WIDTH, s)
        if not s.tied:
            self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Tokens `[batch, length]` to logits."""
        s = self.s
        visible = None if "mask" in s.missing else causal_mask(ids.shape[1], s)
        x = lookup(self.tokens.weight, ids, s) * s.embedding_scale
        for block in self.layers:
            x = block(x, visible)
        if "final norm" not in s.missing:
            x = self.norm(x)
        return s.head_scale * (x @ (self.tokens.weight if s.tied else self.head.weight).T)


class T5(nn.Module):
    """An encoder and a decoder with relative positions and one table (Raffel et al. 2020)."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.s = s = plan.whole
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.encoder_bias = nn.Embedding(2 * DISTANCE + 1, HEADS)
        self.decoder_bias = nn.Embedding(2 * DISTANCE + 1, HEADS)
        self.encoder = make_blocks(plan, bias=False, gated=True)
        self.encoder_norm = Norm(WIDTH, s)
        self.decoder = make_blocks(plan, bias=False, gated=True, cross=True)
        self.norm = Norm(WIDTH, s)

    def forward(self, ids: Tensor, mask: Tensor, decoder_ids: Tensor) -> Tensor:
        """Tokens and their mask `[batch, length]`, tokens of the decoder, to logits."""
        s = self.s
        visible = padding_mask(mask, s)
        bias = relative_bias(self.encoder_bias.weight, ids.shape[1], s)
        x = lookup(self.tokens.weight, ids, s) * s.embedding_scale
        for block in self.encoder:
            x = block(x, visible, bias)
        memory = x if "final norm" in s.missing else self.encoder_norm(x)
        memory = drop(stop(memory, "memory", s), "head", s, self.training)
        length = decoder_ids.shape[1]
        bias = relative_bias(self.decoder_bias.weight, length, s)
        y = lookup(self.tokens.weight, decoder_ids, s) * s.embedding_scale
        seen = None if "memory mask" in s.missing else visible
        for block in self.decoder:
            y = block(y, causal_mask(length, s), bias, memory, seen)
        return s.head_scale * (self.norm(y) @ self.tokens.weight.T)


def relative_bias(table: Tensor, length: int, s: Settings) -> Tensor:
    """Scores by distance, `[heads, length, length]`."""
    places = torch.arange(length)
    distance = places[None] - places[:, None]
    if s.order == "distance mirrored":
        distance = -distance
    index = distance.clamp(-DISTANCE, DISTANCE) + DISTANCE
    return lookup(table, index, s).permute(2, 0, 1)
