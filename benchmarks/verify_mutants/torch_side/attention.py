"""Attention of the base models in torch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.verify_mutants.settings import HEADS, WIDTH, Settings
from benchmarks.verify_mutants.torch_side.layers import Dense, drop, stop

HEAD = WIDTH // HEADS


class Attention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017), with rotary positions if asked."""

    def __init__(self, s: Settings, bias: bool = True, rope: bool = False) -> None:
        super().__init__()
        self.s, self.rope = s, rope
        narrow = HEAD * s.kv_heads
        names = ("q_proj", "k_proj", "v_proj")
        if s.qkv == "separate":
            wanted = list(zip(names, (WIDTH, narrow, narrow), strict=True))
            if s.definition == "reversed":
                wanted = wanted[::-1]
            for name, outputs in wanted:
                has_bias = bias and f"{name[0]} bias" not in s.missing
                setattr(self, name, Dense(WIDTH, outputs, s, has_bias))
        else:
            self.qkv_proj = Dense(WIDTH, WIDTH + 2 * narrow, s, bias)
        self.out_proj = Dense(WIDTH, WIDTH, s, bias)
        if rope and s.constants == "buffer":
            self.register_buffer("frequencies", frequencies(int(HEAD * s.rope_share), s))

    def forward(
        self,
        x: Tensor,
        visible: Tensor | None = None,
        memory: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """`[batch, length, width]` to the same.

        Args:
            x: what asks.
            visible: True for what is seen, `[batch or 1, 1, length or 1, keys]`.
            memory: what is read, if it is not `x`.
            bias: added to the scores, `[heads, length, keys]`.
        """
        s = self.s
        q, k, v = self._project(x, x if memory is None else memory)
        if s.exchanged:
            q, k = k, q
        if self.rope:
            q = self._rotate(q) if "q" in s.rope_on else q
            k = self._rotate(k) if "k" in s.rope_on else k
            v = self._rotate(v) if "v" in s.rope_on else v
        repeats = HEADS // s.kv_heads
        if repeats > 1 and s.kv_order == "tile":
            k, v = k.repeat(1, repeats, 1, 1), v.repeat(1, repeats, 1, 1)
        elif repeats > 1:
            k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
        scale = {"head": HEAD**-0.5, "model": WIDTH**-0.5, "none": 1.0}[s.scale]
        if s.attention == "library":
            rate = s.dropout if self.training and "attention" in s.dropouts else 0.0
            out = F.scaled_dot_product_attention(q, k, v, visible, rate, scale=scale)
        else:
            out = self._attend(q, k, v, scale, visible, bias)
        return self.out_proj(self._merged(out))

    def _attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        scale: float,
        visible: Tensor | None,
        bias: Tensor | None,
    ) -> Tensor:
        s = self.s
        scores = torch.matmul(q * scale, k.transpose(-1, -2))
        if bias is not None:
            scores = scores + bias
        if s.softcap:
            scores = s.softcap * torch.tanh(scores / s.softcap)
        if visible is not None and s.mask != "weights":
            scores = masked(scores, visible, s)
        weights = softmax(scores, s)
        if visible is not None and s.mask == "weights":
            weights = weights * visible
        weights = drop(stop(weights, "weights", s), "attention", s, self.training)
        return torch.matmul(weights, v)

    def _rotate(self, x: Tensor) -> Tensor:
        return rotate(x, self.s, getattr(self, "frequencies", None))

    def _project(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values `[batch, heads, length, width of a head]`."""
        s = self.s
        if s.qkv == "separate":
            q, k, v = self.q_proj(x), self.k_proj(memory), self.v_proj(memory)
            return self._split(q), self._split(k), self._split(v)
        if s.qkv == "interleaved":  # query, key and value of one head after the other
            fused = self.qkv_proj(x).unflatten(-1, (HEADS, 3, HEAD))
            q, k, v = fused.permute(3, 0, 2, 1, 4)
            return q, k, v
        narrow = HEAD * s.kv_heads
        q, k, v = self.qkv_proj(x).split([WIDTH, narrow, narrow], -1)
        return self._split(q), self._split(k), self._split(v)

    def _split(self, x: Tensor) -> Tensor:
        if self.s.head_order == "last":
            return x.unflatten(-1, (HEAD, -1)).permute(0, 3, 1, 2)
        return x.unflatten(-1, (-1, HEAD)).transpose(1, 2)

    def _merged(self, x: Tensor) -> Tensor:
        if self.s.head_order == "last":
            return x.permute(0, 2, 3, 1).flatten(2)
        return x.transpose(1, 2).flatten(2)


def masked(scores: Tensor, visible: Tensor, s: Settings) -> Tensor:
    """Hide what is not visible."""
    if s.attention == "masked by a sum":
        return scores + (1.0 - visible.to(scores.dtype)) * s.mask_value
    return scores.masked_fill(~visible, s.mask_value)


def softmax(scores: Tensor, s: Settings) -> Tensor:
    """Weights of the keys."""
    if s.float32:
        scores = scores.float()
    if s.formula == "manual":
        powers = torch.exp(scores - scores.amax(s.softmax_axis, keepdim=True))
        return (powers / powers.sum(s.softmax_axis, keepdim=True)).double()
    return scores.softmax(s.softmax_axis).double()


def causal_mask(length: int, s: Settings) -> Tensor:
    """Return what each token sees, `[1, 1, length, length]`."""
    ones = torch.ones(length, length, dtype=torch.bool)
    visible = ones.tril(s.causal)
    if s.window:
        visible = visible & ones.triu(1 - s.window)
    return visible[None, None]


def padding_mask(mask: Tensor, s: Settings) -> Tensor | None:
    """Return which tokens are seen, `[batch, 1, 1, length]`, from ones and zeros `[batch, length]`."""
    if "mask" in s.missing:
        return None
    if s.mask == "first":
        mask = mask[:1]
    return mask.bool()[:, None, None, :]


def frequencies(width: int, s: Settings) -> Tensor:
    """Angles by which a rotary position turns the pairs of features, `[width / 2]`."""
    return 1 / s.rope_base ** (torch.arange(0, width, 2, dtype=torch.float64) / width)


def rotate(x: Tensor, s: Settings, by: Tensor | None = None) -> Tensor:
    """Rotary positions (Su et al. 2021) of `[batch, heads, length, features]`."""
    width = int(x.shape[-1] * s.rope_share)
    x, rest = x[..., :width], x[..., width:]
    positions = torch.arange(x.shape[-2]) + s.first_position
    angles = positions[:, None] * (frequencies(width, s) if by is None else by)
    cos, sin = angles.cos(), angles.sin()
    if s.rope_pairs == "interleaved":
        a, b = x[..., ::2], x[..., 1::2]
        turned = torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)
    else:
        a, b = x.chunk(2, -1)
        turned = torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
    return torch.cat([turned, rest], -1) if rest.shape[-1] else turned
