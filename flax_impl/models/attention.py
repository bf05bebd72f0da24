"""Multi-head attention, shared by vision and language transformers."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from flax_impl.device import Device
from flax_impl.layers import TypedModule
from flax_impl.models.long_attention import Long, attend_by_parts
from flax_impl.randomness import Dropout
from flax_impl.vectorized.number import Number
from pipeline.config.models import AttentionKernel, ModelConfig, TransformerConfig
from pipeline.config.train import Precision
from pipeline.run.recording.kernels import CUDNN, RECOMPUTED, WRITTEN_OUT, note_kernel
from pipeline.training.model_checks import no_fused_attention

NAMES = {
    AttentionKernel.written_out: WRITTEN_OUT,
    AttentionKernel.recomputed: RECOMPUTED,
    AttentionKernel.fused: CUDNN,
}
# Tokens from which on the softmax is computed by parts. On a CPU that takes 0.6 of the time there; shorter
# ones take less than all else that a block keeps.
LONG = 512


class Attention(TypedModule):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017).

    `names` are the module names of the query-key-value layer (one matrix, in this order), the attention
    dropout, the output layer and the output dropout; `rates` are those of the two dropouts. With `causal` a
    token attends only to itself and earlier ones.
    """

    heads: int
    names: tuple[str, str, str, str]
    rates: tuple[float, float]
    causal: bool = False
    bias: bool = True
    kernel: AttentionKernel = AttentionKernel.written_out

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, seen: jax.Array | None = None
    ) -> jax.Array:
        """`[batch, length, width]` to the same; `seen`, as in `attend`, leaves tokens out."""
        packed, drop, out, drop_out = self.names
        batch, length, width = x.shape
        heads = nn.Dense(3 * width, self.bias, name=packed, **self.types)(x)
        heads = heads.reshape(batch, length, 3, self.heads, width // self.heads)
        query, key, value = jnp.transpose(heads, (2, 0, 3, 1, 4))
        dropout = Dropout(self.rates[0], name=drop)
        mixed = _mix(self.kernel, query, key, value, self.causal, seen, dropout, train)
        mixed = jnp.transpose(mixed, (0, 2, 1, 3)).reshape(batch, length, width)
        x = nn.Dense(width, self.bias, name=out, **self.types)(mixed)
        return Dropout(self.rates[1], name=drop_out)(x, train)


class CrossAttention(TypedModule):
    """Attention of one sequence to another, with the names of Hugging Face's GPT-2."""

    heads: int
    dropout: float
    bias: bool = True
    kernel: AttentionKernel = AttentionKernel.written_out

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        memory: jax.Array,
        train: bool = False,
        seen: jax.Array | None = None,
    ) -> jax.Array:
        """`[batch, length, width]` to the same; `memory` `[batch, other length, width]` is attended to."""
        batch, length, width = x.shape
        query = nn.Dense(width, self.bias, name="q_attn", **self.types)(x)
        query = jnp.transpose(query.reshape(batch, length, self.heads, -1), (0, 2, 1, 3))
        packed = nn.Dense(2 * width, self.bias, name="c_attn", **self.types)(memory)
        packed = packed.reshape(batch, memory.shape[1], 2, self.heads, -1)
        key, value = jnp.transpose(packed, (2, 0, 3, 1, 4))
        dropout = Dropout(self.dropout, name="attn_dropout")
        mixed = _mix(self.kernel, query, key, value, False, seen, dropout, train)
        mixed = jnp.transpose(mixed, (0, 2, 1, 3)).reshape(batch, length, width)
        x = nn.Dense(width, self.bias, name="c_proj", **self.types)(mixed)
        return Dropout(self.dropout, name="resid_dropout")(x, train)


def _mix(
    kernel: AttentionKernel,
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    causal: bool,
    seen: jax.Array | None,
    dropout: Dropout,
    train: bool,
) -> jax.Array:
    """`attend`, by a kernel; auto: cuDNN's if it fits, or else the softmax is computed again."""
    drop = partial(dropout, train=train)
    problem = _problem_of_cudnn(query, dropout.rate if train else 0.0)
    if kernel is AttentionKernel.fused and problem:
        raise no_fused_attention(problem)
    if kernel is AttentionKernel.auto:
        fits = seen is None and not problem
        kernel = AttentionKernel.fused if fits else AttentionKernel.recomputed
    if train:
        note_kernel(NAMES.__getitem__, kernel)
    if kernel is AttentionKernel.fused:
        return _fused(query, key, value, causal, seen)
    if kernel is AttentionKernel.written_out:
        return attend(query, key, value, causal, seen, drop)
    if query.shape[2] * key.shape[2] >= LONG**2:
        rate = dropout.rate if train else 0.0
        long = Long(attend, causal, rate, ".".join(dropout.path))
        return attend_by_parts(long, query, key, value, seen, dropout.key if rate else None)
    again = jax.checkpoint(lambda query, key, value: attend(query, key, value, causal, seen, drop))
    return again(query, key, value)


def _problem_of_cudnn(query: jax.Array, rate: float | Number) -> str:
    """Why cuDNN has no kernel for such heads; empty if it has. Only here: torch chooses by itself."""
    width = query.shape[-1]
    if query.dtype != jnp.bfloat16:
        return f"cuDNN's is for train.precision=bf16, not {query.dtype}"
    if rate:
        return f"JAX's has no dropout, and that of the attention is {rate}"
    fits = width <= 128 and width % 8 == 0
    return "" if fits else f"cuDNN's is for heads of up to 128 by eights, not of {width}"


def _fused(
    query: jax.Array, key: jax.Array, value: jax.Array, causal: bool, seen: jax.Array | None
) -> jax.Array:
    """`attend` without dropout, by cuDNN."""
    batch, _, length, _ = query.shape
    others, ends = key.shape[2], [None, None]
    if seen is not None:
        seen = jnp.broadcast_to(seen, (batch, 1, length, others))
    if length % 2 or others % 2:  # JAX refuses such lengths in training
        query, key, value = map(_to_even, (query, key, value))
        seen = None if seen is None else _to_even(_to_even(seen).swapaxes(2, 3)).swapaxes(2, 3)
        ends = [jnp.full(batch, size, jnp.int32) for size in (length, others)]
    query, key, value = (jnp.swapaxes(x, 1, 2) for x in (query, key, value))
    mixed = jax.nn.dot_product_attention(
        query,
        key,
        value,
        mask=seen,
        is_causal=causal,
        query_seq_lengths=ends[0],
        key_value_seq_lengths=ends[1],
        implementation="cudnn",
    )
    return jnp.swapaxes(mixed, 1, 2)[:, :, :length]


def _to_even(x: jax.Array) -> jax.Array:
    """Append zeros to an odd length, the third axis. Only here: torch's kernels take any length."""
    odd = x.shape[2] % 2
    return jnp.pad(x, [(0, odd if axis == 2 else 0) for axis in range(x.ndim)]) if odd else x


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    causal: bool,
    seen: jax.Array | None,
    drop: Callable,
) -> jax.Array:
    """softmax(QKᵀ / √d) V (Vaswani et al. 2017, equation 1), the softmax in float32 at least.

    Query, key, value and result are `[batch, heads, length, d]`. With `causal` a token attends only to itself
    and earlier ones; `seen` `[batch, 1, 1, length of keys]` is false for keys that none attends to; `drop` is
    applied to the softmax. `jax.nn.dot_product_attention` computes its softmax in float32 at most.
    """
    wide = jnp.promote_types(query.dtype, jnp.float32)
    scores = jnp.einsum("bhqd,bhkd->bhqk", query, key, preferred_element_type=wide)
    scores = scores / query.shape[-1] ** 0.5
    if causal:
        length = query.shape[-2]
        seen = jnp.tril(jnp.ones((length, length), bool))
    if seen is not None:
        scores = jnp.where(seen, scores, -jnp.inf)
    return drop(nn.softmax(scores)).astype(value.dtype) @ value


def choose_kernel(
    config: ModelConfig, input_shape: tuple[int, ...], device: Device, is_traced: bool
) -> ModelConfig:
    """Return a model's config with the kernel of attention for a device and samples of `input_shape`.

    On a CPU, in float64, and where the layers inside are traced, it is written out, unless the sequence is
    long. Only here: torch's function chooses its kernel by itself.

    Raises:
        UserError: there is no fused kernel for the device.
    """
    if not isinstance(config, TransformerConfig):
        return config
    kernel = config.attention
    is_gpu, precision = device.kind == "gpu", device.precision
    has_fused = is_gpu and _has_cudnn_s(device.mesh.devices.flat[0])
    if kernel is AttentionKernel.fused and not has_fused:
        raise no_fused_attention("JAX's is for NVIDIA GPUs of compute capability 8.0 and more")
    if kernel is AttentionKernel.auto:
        if not is_gpu or precision is Precision.fp64:
            is_long = config.tokens(input_shape) >= LONG
            kernel = AttentionKernel.recomputed if is_long else AttentionKernel.written_out
        elif not has_fused:
            kernel = AttentionKernel.recomputed
    if is_traced:
        kernel = AttentionKernel.written_out
    return replace(config, attention=kernel)


def _has_cudnn_s(device: jax.Device) -> bool:
    """Return whether cuDNN has kernels of attention for a GPU."""
    own = getattr(device, "compute_capability", "")  # such as 9.0; AMD's have names
    return re.fullmatch(r"\d+\.\d+", own) is not None and float(own) >= 8
