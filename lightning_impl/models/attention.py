"""Multi-head attention, shared by vision and language transformers."""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from lightning_impl.randomness import Dropout
from pipeline.config.models import AttentionKernel
from pipeline.run.recording.kernels import (
    CUDNN,
    EFFICIENT,
    FLASH,
    MATH,
    RECOMPUTED,
    WRITTEN_OUT,
    note_kernel,
)
from pipeline.training.model_checks import no_fused_attention

FUSED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION]
# By the names of `pipeline.run.recording.kernels`.
BY_NAME = dict(zip((FLASH, EFFICIENT, CUDNN, MATH), (*FUSED, SDPBackend.MATH), strict=True))
ENABLED = {
    FLASH: torch.backends.cuda.flash_sdp_enabled,
    EFFICIENT: torch.backends.cuda.mem_efficient_sdp_enabled,
    CUDNN: torch.backends.cuda.cudnn_sdp_enabled,
    MATH: torch.backends.cuda.math_sdp_enabled,
}


class Attention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017).

    `names` are the module names of the query-key-value layer (one matrix, in this order), the attention
    dropout, the output layer and the output dropout; `rates` are those of the two dropouts. With `causal` a
    token attends only to itself and earlier ones.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        names: tuple[str, str, str, str],
        rates: tuple[float, float],
        causal: bool = False,
        bias: bool = True,
        kernel: AttentionKernel = AttentionKernel.auto,
    ) -> None:
        super().__init__()
        self.heads, self.names, self.causal, self.kernel = heads, names, causal, kernel
        layers = (
            nn.Linear(width, 3 * width, bias),
            Dropout(rates[0]),
            nn.Linear(width, width, bias),
            Dropout(rates[1]),
        )
        for name, layer in zip(names, layers, strict=True):
            self.add_module(name, layer)

    def forward(self, x: torch.Tensor, seen: torch.Tensor | None = None) -> torch.Tensor:
        """`[batch, length, width]` to the same; `seen`, as in `attend`, leaves tokens out."""
        packed, drop, out, drop_out = (getattr(self, name) for name in self.names)
        batch, length, width = x.shape
        heads = packed(x).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # [batch, heads, length, width of a head]
        mixed = _mix(self.kernel, query, key, value, self.causal, seen, drop)
        return drop_out(out(mixed.transpose(1, 2).reshape(batch, length, width)))


class CrossAttention(nn.Module):
    """Attention of one sequence to another, with the names of Hugging Face's GPT-2."""

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float,
        bias: bool = True,
        kernel: AttentionKernel = AttentionKernel.auto,
    ) -> None:
        super().__init__()
        self.heads, self.kernel = heads, kernel
        self.q_attn = nn.Linear(width, width, bias)
        self.c_attn = nn.Linear(width, 2 * width, bias)
        self.attn_dropout = Dropout(dropout)
        self.c_proj = nn.Linear(width, width, bias)
        self.resid_dropout = Dropout(dropout)

    def forward(
        self, x: torch.Tensor, memory: torch.Tensor, seen: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`[batch, length, width]` to the same; `memory` `[batch, other length, width]` is attended to."""
        batch, length, width = x.shape
        query = self.q_attn(x).view(batch, length, self.heads, -1).transpose(1, 2)
        packed = self.c_attn(memory).view(batch, memory.shape[1], 2, self.heads, -1)
        key, value = packed.permute(2, 0, 3, 1, 4)
        mixed = _mix(self.kernel, query, key, value, False, seen, self.attn_dropout)
        mixed = mixed.transpose(1, 2).reshape(batch, length, width)
        return self.resid_dropout(self.c_proj(mixed))


def _mix(
    kernel: AttentionKernel,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    causal: bool,
    seen: torch.Tensor | None,
    drop: Dropout,
) -> torch.Tensor:
    """`attend`, by a kernel; auto: the one that torch chooses, if its dropout may draw masks of its own."""
    rate = drop.rate if drop.training else 0.0
    is_shared = bool(rate) and drop.key is not None  # the same masks as in the other backend
    if kernel is AttentionKernel.fused and is_shared:
        raise no_fused_attention("none draws the masks of train.randomness=shared")
    if kernel is AttentionKernel.auto and is_shared:
        kernel = AttentionKernel.written_out
    if drop.training:
        shapes = tuple(query.shape), tuple(key.shape)
        about = query.dtype, query.device.type, seen is not None, rate, causal
        note_kernel(_name_of, kernel.name, _allowed(kernel), *shapes, *about)
    if kernel is AttentionKernel.recomputed:
        return checkpoint(attend, query, key, value, causal, seen, drop, use_reentrant=False)
    if kernel is AttentionKernel.written_out:
        return attend(query, key, value, causal, seen, drop)
    mix = partial(F.scaled_dot_product_attention, query, key, value, seen, rate, causal)
    if kernel is AttentionKernel.auto:
        return mix()
    try:
        with sdpa_kernel(FUSED):
            return mix()
    except RuntimeError as error:
        if "No available kernel" not in str(error):
            raise
        found = f"{query.dtype} on {query.device.type}, heads of {query.shape[-1]}, dropout {rate}"
        raise no_fused_attention(f"torch has none for {found}") from error


def _allowed(kernel: AttentionKernel) -> tuple[str, ...]:
    """Return the kernels that torch may choose from; a compiler sees no settings of torch: all."""
    if kernel is AttentionKernel.fused:
        return FLASH, EFFICIENT, CUDNN
    if torch.compiler.is_compiling():
        return tuple(ENABLED)
    return tuple(name for name, is_enabled in ENABLED.items() if is_enabled())


def _name_of(
    kernel: str,
    allowed: Sequence[str],
    query_shape: Sequence[int],
    key_shape: Sequence[int],
    dtype: torch.dtype,
    device: str,
    is_masked: bool,
    rate: float,
    causal: bool,
) -> str:
    """Name the kernel that computes such an attention, which torch is asked for; empty if none can."""
    if kernel in (WRITTEN_OUT, RECOMPUTED):
        return kernel
    query, key = (
        torch.empty(1, *shape[1:], dtype=dtype, device=device, requires_grad=True)
        for shape in (query_shape, key_shape)
    )
    seen = None
    if is_masked:
        seen = torch.ones(1, 1, 1, key_shape[2], dtype=torch.bool, device=device)
    try:
        with sdpa_kernel([BY_NAME[name] for name in allowed]):
            choice = SDPBackend(torch._fused_sdp_choice(query, key, key, seen, rate, causal))
    except RuntimeError:  # no kernel is allowed that can: the call itself has failed
        return ""
    return next((name for name, chosen in BY_NAME.items() if chosen == choice), MATH)


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    causal: bool,
    seen: torch.Tensor | None,
    drop: Dropout,
) -> torch.Tensor:
    """softmax(QKᵀ / √d) V (Vaswani et al. 2017, equation 1), the softmax in float32 at least.

    Query, key, value and result are `[batch, heads, length, d]`. With `causal` a token attends only to itself
    and earlier ones; `seen` `[batch, 1, 1, length of keys]` is false for keys that none attends to; `drop` is
    applied to the softmax.
    """
    wide = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        scores = query.to(wide) @ key.to(wide).transpose(-2, -1) / query.shape[-1] ** 0.5
    if causal:
        length = query.shape[-2]
        seen = torch.ones(length, length, dtype=torch.bool, device=query.device).tril()
    if seen is not None:
        scores = scores.masked_fill(~seen, -torch.inf)
    return drop(scores.softmax(-1)).to(value.dtype) @ value
