"""Dense layers, embeddings and dropout."""

from benchmarks.differences.draws import given, integers, normal
from benchmarks.differences.plays.layers import layer
from benchmarks.differences.plays.values import gradient, value
from benchmarks.differences.row import Row

ONES = {"x": given(*[[[[1.0] * 64] * 8] * 8] * 2)}  # [batch, height, width, channels]
TABLE = {"w": normal((7, 4)), "k": integers(7, (2, 4))}

ROWS = [
    Row(key="dense-kernel", title="Dense: layout of the kernel", torch="F.linear(x, w)",
        linen="linen.Dense(5, use_bias=False).apply({'params': {'kernel': w}}, x)",
        closed={"linen": "linen.Dense(5, use_bias=False).apply({'params': {'kernel': w.T}}, x)"},
        inputs={"x": normal((3, 5)), "w": normal((5, 5))}, play=value),
    Row(key="dense", title="Dense: output of equal weights", torch="nn.Linear(5, 3)",
        linen="linen.Dense(3)", nnx="nnx.Linear(5, 3, rngs=rngs)",
        equinox="eqx.nn.Linear(5, 3, key=key)", inputs={"x": normal((3, 5))}, play=layer()),
    Row(key="dense-bias", title="Dense: number of parameters", torch="nn.Linear(5, 3)",
        linen="linen.Dense(3)", nnx="nnx.Linear(5, 3, rngs=rngs)",
        equinox="eqx.nn.Linear(5, 3, key=key)", inputs={"x": normal((3, 5))},
        play=layer("parameters")),
    Row(key="flatten-order", title="Flattening of images [N, C, H, W] and [N, H, W, C]",
        torch="x.flatten(1)", jax="x.transpose(0, 2, 3, 1).reshape(x.shape[0], -1)",
        closed="x.reshape(x.shape[0], -1)", inputs={"x": normal((2, 3, 4, 5))}, play=value),
    Row(key="embedding", title="Embedding: output", torch="nn.Embedding(7, 4)",
        linen="linen.Embed(7, 4)", nnx="nnx.Embed(7, 4, rngs=rngs)",
        equinox="eqx.nn.Embedding(7, 4, key=key)", closed={"nnx": "param_dtype=float"},
        inputs={"k": integers(7, (2, 4))}, play=layer()),
    Row(key="embedding-padding-gradient", title="Embedding with padding_idx: gradient of the table",
        torch="F.embedding(k, w, padding_idx=0)",
        linen="linen.Embed(7, 4).apply({'params': {'embedding': w}}, k)",
        closed="jnp.where(k[..., None] == 0, jax.lax.stop_gradient(w[k]), w[k])",
        inputs=TABLE, play=gradient("w")),
    Row(key="embedding-out-of-range", title="Embedding: index out of range",
        torch="F.embedding(k, w)", linen="linen.Embed(7, 4).apply({'params': {'embedding': w}}, k)",
        jax="jnp.take(w, k, axis=0)", inputs={"w": normal((7, 4)), "k": given([0, 7])},
        play=value, refusals=True, seeds=(0,)),
    Row(key="dropout-rate", title="Dropout: share of zeros", torch="F.dropout(x, 0.3).eq(0).double().mean()",
        linen="(linen.Dropout(0.3, deterministic=False).apply({}, x, rngs={'dropout': key}) == 0).mean()",
        nnx="(nnx.Dropout(0.3, rngs=rngs)(x) == 0).mean()",
        equinox="(eqx.nn.Dropout(0.3)(x, key=key) == 0).mean()", inputs=ONES, play=value,
        same=0.05, seeds=(0,)),
    Row(key="dropout-scale", title="Dropout: what is kept is scaled by", torch="F.dropout(x, 0.3).max()",
        linen="linen.Dropout(0.3, deterministic=False).apply({}, x, rngs={'dropout': key}).max()",
        nnx="nnx.Dropout(0.3, rngs=rngs)(x).max()", equinox="eqx.nn.Dropout(0.3)(x, key=key).max()",
        inputs=ONES, play=value, seeds=(0,)),
    Row(key="dropout-evaluation", title="Dropout in evaluation", torch="F.dropout(x, 0.3, training=False)",
        linen="linen.Dropout(0.3, deterministic=True).apply({}, x)",
        nnx="nnx.Dropout(0.3, deterministic=True)(x)",
        equinox="eqx.nn.Dropout(0.3, inference=True)(x)", inputs=ONES, play=value, seeds=(0,)),
    Row(key="dropout-channels", title="Dropout of whole channels: spread within one",
        torch="F.dropout2d(x.permute(0, 3, 1, 2), 0.3).std((2, 3)).mean()",
        linen="linen.Dropout(0.3, deterministic=False)"
        ".apply({}, x, rngs={'dropout': key}).std((1, 2)).mean()",
        nnx="nnx.Dropout(0.3, rngs=rngs)(x).std((1, 2)).mean()", closed={
        "linen": "linen.Dropout(0.3, broadcast_dims=(1, 2), deterministic=False)"
        ".apply({}, x, rngs={'dropout': key}).std((1, 2)).mean()",
        "nnx": "nnx.Dropout(0.3, broadcast_dims=(1, 2), rngs=rngs)(x).std((1, 2)).mean()"},
        inputs=ONES, play=value, seeds=(0,)),
    Row(key="dropout-all", title="Dropout of rate 1", torch="F.dropout(x, 1.0)",
        linen="linen.Dropout(1.0, deterministic=False).apply({}, x, rngs={'dropout': key})",
        nnx="nnx.Dropout(1.0, rngs=rngs)(x)", equinox="eqx.nn.Dropout(1.0)(x, key=key)",
        inputs=ONES, play=value, seeds=(0,)),
]  # fmt: skip
