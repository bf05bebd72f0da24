"""Attention. Queries, keys and values are [batch, length, heads, width]; torch's functions move the heads."""

import numpy as np

from benchmarks.differences.draws import given, normal
from benchmarks.differences.plays.layers import layer
from benchmarks.differences.plays.values import heads_first, value
from benchmarks.differences.row import Row

X = {"x": normal((2, 5, 8))}
QKV = {name: normal((2, 5, 5, 4)) for name in "qkv"}  # one shape for all: each is compiled anew
CROSS = QKV | {"q": normal((2, 3, 5, 4))}
SDPA = "F.scaled_dot_product_attention(q, k, v"
DOT = "dot_product_attention(q, k, v"
WEIGHTS = {
    "linen": "linen.dot_product_attention_weights",
    "nnx": "nnx.nn.attention.dot_product_attention_weights",
}
SINGLE = 2e-6  # some of them compute in float32, see attention-softmax-dtype
SPREAD = "q, q, dropout_rng=key, dropout_rate=0.5"


def mask(text: str) -> dict[str, str]:
    """Make the calls of the three functions with a mask."""
    return {
        "linen": f"linen.{DOT}, mask={text})",
        "nnx": f"nnx.{DOT}, mask={text})",
        "jax": f"jax.nn.{DOT}, mask={text})",
    }


ROWS = [
    Row(key="attention-layer", title="Attention layer: weights packed or apart",
        torch="nn.MultiheadAttention(8, 2, batch_first=True)",
        linen="linen.MultiHeadDotProductAttention(2)",
        nnx="nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)",
        equinox="eqx.nn.MultiheadAttention(2, 8, use_query_bias=True, use_key_bias=True, "
        "use_value_bias=True, use_output_bias=True, key=key)", inputs=X, play=layer(), same=SINGLE),
    Row(key="attention-bias", title="Attention layer: number of parameters",
        torch="nn.MultiheadAttention(8, 2)", linen="linen.MultiHeadDotProductAttention(2)",
        nnx="nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)",
        equinox="eqx.nn.MultiheadAttention(2, 8, key=key)", closed={
            "equinox": "use_query_bias=True, use_key_bias=True, use_value_bias=True, "
            "use_output_bias=True"}, inputs=X, play=layer("parameters")),
    Row(key="attention-batch-first", title="Attention layer: which axis is the sequence",
        torch="nn.MultiheadAttention(8, 2)", linen="linen.MultiHeadDotProductAttention(2)",
        nnx="nnx.MultiHeadAttention(2, 8, decode=False, rngs=rngs)",
        torch_closed="batch_first=True", inputs=X, play=layer(), same=SINGLE),
    Row(key="attention-softmax-dtype", title="Attention: softmax in float32 whatever the inputs",
        torch=f"{SDPA})", linen=f"linen.{DOT})", nnx=f"nnx.{DOT})", jax=f"jax.nn.{DOT})",
        closed={"nnx": f"linen.{DOT})", "jax": f"linen.{DOT})"}, inputs=QKV, play=heads_first),
    Row(key="attention-scale", title="Attention: scale 1/√width", torch=f"{SDPA})",
        linen=f"linen.{DOT})", nnx=f"nnx.{DOT})", jax=f"jax.nn.{DOT})", inputs=QKV,
        play=heads_first, same=SINGLE),
    Row(key="attention-layout", title="Attention: [batch, heads, length, width] given to all",
        torch=f"{SDPA})", linen=f"linen.{DOT})", nnx=f"nnx.{DOT})", jax=f"jax.nn.{DOT})",
        closed={name: f"{name if name != 'jax' else 'jax.nn'}.dot_product_attention("
                "*(a.swapaxes(1, 2) for a in (q, k, v))).swapaxes(1, 2)"
                for name in ("linen", "nnx", "jax")},
        inputs=QKV, play=value, same=SINGLE),
    Row(key="attention-mask", title="Attention function: mask is True where it attends",
        torch=f"{SDPA}, attn_mask=torch.ones(5, 5).tril().bool())",
        **mask("jnp.tril(jnp.ones((1, 1, 5, 5), bool))"), inputs=QKV, play=heads_first, same=SINGLE),
    Row(key="attention-layer-mask", title="Attention layer: mask is True where it is blocked",
        torch="F.multi_head_attention_forward(x, x, x, 8, 1, w, None, None, None, False, 0.0, w[:8], "
        "None, attn_mask=m)[0]", jax="jax.nn.dot_product_attention(*[x[:, None]] * 3, mask=m)[:, 0]",
        closed="jax.nn.dot_product_attention(*[x[:, None]] * 3, mask=~m)[:, 0]",
        inputs={"x": normal((5, 8)), "w": given(*[*np.eye(8)] * 3),
                "m": given(*~np.tri(5, dtype=bool))}, play=value, same=SINGLE),
    Row(key="attention-causal", title="Attention: causal, three queries of five keys",
        torch=f"{SDPA}, is_causal=True)", jax=f"jax.nn.{DOT}, is_causal=True)",
        inputs=CROSS, play=heads_first, same=SINGLE),
    Row(key="attention-masked-row", title="Attention: a query that attends to nothing",
        torch=f"{SDPA}, attn_mask=torch.ones(5, 5).tril(-1).bool())",
        **mask("jnp.tril(jnp.ones((1, 1, 5, 5), bool), -1)"), closed={
            name: f"{prefix}.{DOT}, mask=jnp.tril(jnp.ones((1, 1, 5, 5), bool), -1))"
            ".at[:, 0].set(0)" for name, prefix in
            (("linen", "linen"), ("nnx", "nnx"), ("jax", "jax.nn"))},
        inputs=QKV, play=heads_first, same=SINGLE),
    Row(key="attention-float-mask", title="Attention: numbers added to the logits",
        torch=f"{SDPA}, attn_mask=b)", linen=f"linen.{DOT}, bias=b)", nnx=f"nnx.{DOT}, bias=b)",
        jax=f"jax.nn.{DOT}, bias=b)", inputs=QKV | {"b": normal((2, 5, 5, 5))},
        play=heads_first, same=SINGLE),
    Row(key="attention-grouped-heads", title="Attention: several heads of queries to one of keys",
        torch=f"{SDPA}, enable_gqa=True)", jax=f"jax.nn.{DOT})",
        inputs=QKV | {"q": normal((2, 5, 10, 4))}, play=heads_first, same=SINGLE),
    Row(key="attention-dropout", title="Attention: dropout per element (spread over samples and heads)",
        torch="(F.dropout(torch.ones(8, 4, 16, 16), 0.5) / 16).std((0, 1), correction=0).mean()",
        **{name: f"{path}({SPREAD}).std((0, 1)).mean()" for name, path in WEIGHTS.items()},
        closed={name: f"{path}({SPREAD}, broadcast_dropout=False).std((0, 1)).mean()"
                for name, path in WEIGHTS.items()},
        inputs={"q": normal((8, 16, 4, 2), scale=0.0)}, play=value, same=0.1, seeds=(0,)),
]  # fmt: skip
