"""Initial values: quantiles of many, drawn with each framework's own random numbers."""

from benchmarks.differences.draws import given, integers, normal
from benchmarks.differences.plays.layers import layer
from benchmarks.differences.plays.values import quantiles, value
from benchmarks.differences.row import Row, flax

RANDOM = {"same": 0.05, "seeds": (0,)}
UNIFORM = "initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')"
ROOT = "lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -(300**-0.5), 300**-0.5)"
CELL = "linen.OptimizedLSTMCell(300{}).init(key, (c, c), x)['params']['{}']['kernel']"
DENSE = {"x": normal((1, 500))}
IMAGES = {"x": normal((1, 5, 5, 64))}


def layers(
    key: str,
    title: str,
    part: str,
    torch: str,
    linen: str,
    nnx: str,
    equinox: str,
    closed: dict[str, str],
    inputs: dict,
) -> Row:
    """Make the row of the initial values of a layer's parameter."""
    return Row(key=key, title=title, torch=torch, linen=linen, nnx=nnx, equinox=equinox, closed=closed,
               inputs=inputs, play=layer(f"initial {part}"), **RANDOM)  # fmt: skip


def function(key: str, title: str, torch: str, jax: str, closed: str = "") -> Row:
    """Make the row of an initializer: torch's of [300, 500], JAX's of its transpose."""
    return Row(key=key, title=title, torch=f"init.{torch}",
               jax=f"initializers.{jax}(key, (500, 300), float)", closed=closed and
               f"initializers.{closed}(key, (500, 300), float)", play=quantiles, **RANDOM)  # fmt: skip


W = "torch.empty(300, 500)"
ROWS = [
    layers("dense-init", "Dense: initial kernel", "weight", "nn.Linear(500, 300)", "linen.Dense(300)",
           "nnx.Linear(500, 300, rngs=rngs)", "eqx.nn.Linear(500, 300, key=key)",
           flax(f"kernel_init={UNIFORM}"), DENSE),
    layers("dense-bias-init", "Dense: initial bias", "bias", "nn.Linear(4, 60000)",
           "linen.Dense(60000)", "nnx.Linear(4, 60000, rngs=rngs)",
           "eqx.nn.Linear(4, 60000, key=key)",
           flax("bias_init=lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -0.5, 0.5)"),
           {"x": normal((1, 4))}),
    layers("conv-init", "Convolution: initial kernel", "weight", "nn.Conv2d(64, 128, 5)",
           "linen.Conv(128, (5, 5))", "nnx.Conv(64, 128, (5, 5), rngs=rngs)",
           "eqx.nn.Conv2d(64, 128, 5, key=key)", flax(f"kernel_init={UNIFORM}"), IMAGES),
    layers("conv-transpose-init", "Transposed convolution: initial kernel", "weight",
           "nn.ConvTranspose2d(64, 128, 5)", "linen.ConvTranspose(128, (5, 5))",
           "nnx.ConvTranspose(64, 128, (5, 5), rngs=rngs)",
           "eqx.nn.ConvTranspose2d(64, 128, 5, key=key)",
           flax("kernel_init=initializers.variance_scaling(1 / 6, 'fan_in', 'uniform')"), IMAGES),
    layers("embedding-init", "Embedding: initial table", "weight", "nn.Embedding(3000, 64)",
           "linen.Embed(3000, 64)", "nnx.Embed(3000, 64, rngs=rngs)",
           "eqx.nn.Embedding(3000, 64, key=key)",
           flax("embedding_init=initializers.normal(1.0)"), {"k": integers(3000, (2,))}),
    layers("attention-init", "Attention: initial query kernel", "query.weight",
           "nn.MultiheadAttention(400, 4)", "linen.MultiHeadDotProductAttention(4)",
           "nnx.MultiHeadAttention(4, 400, decode=False, rngs=rngs)",
           "eqx.nn.MultiheadAttention(4, 400, key=key)",
           flax("kernel_init=initializers.variance_scaling(0.5, 'fan_in', 'uniform')"),
           {"x": normal((1, 2, 400))}),
    layers("attention-out-init", "Attention: initial output kernel", "out.weight",
           "nn.MultiheadAttention(400, 4)", "linen.MultiHeadDotProductAttention(4)",
           "nnx.MultiHeadAttention(4, 400, decode=False, rngs=rngs)",
           "eqx.nn.MultiheadAttention(4, 400, key=key)",
           flax(f"out_kernel_init={UNIFORM}"), {"x": normal((1, 2, 400))}),
    Row(key="lstm-init", title="LSTM: initial input kernel", torch="nn.LSTM(500, 300).weight_ih_l0",
        linen=CELL.format("", "ii"), nnx="nnx.LSTMCell(500, 300, rngs=rngs).ii.kernel[...]",
        equinox="eqx.nn.LSTMCell(500, 300, key=key).weight_ih", closed={
            "linen": CELL.format(f", kernel_init={ROOT}", "ii"),
            "nnx": f"nnx.LSTMCell(500, 300, kernel_init={ROOT}, rngs=rngs).ii.kernel[...]"},
        inputs=DENSE | {"c": given([0.0] * 300)}, play=quantiles, **RANDOM),
    Row(key="lstm-recurrent-init", title="LSTM: initial recurrent kernel",
        torch="nn.LSTM(500, 300).weight_hh_l0", linen=CELL.format("", "hi"),
        nnx="nnx.OptimizedLSTMCell(500, 300, rngs=rngs).dense_h.kernel[...]",
        equinox="eqx.nn.LSTMCell(500, 300, key=key).weight_hh", closed={
            "linen": CELL.format(f", recurrent_kernel_init={ROOT}", "hi"),
            "nnx": f"nnx.OptimizedLSTMCell(500, 300, recurrent_kernel_init={ROOT}, rngs=rngs)"
            ".dense_h.kernel[...]"},
        inputs=DENSE | {"c": given([0.0] * 300)}, play=quantiles, **RANDOM),
    function("kaiming-normal", "Kaiming (He) normal: truncated", f"kaiming_normal_({W})",
             "he_normal()", "variance_scaling(2, 'fan_in', 'normal')"),
    function("kaiming-uniform", "Kaiming (He) uniform", f"kaiming_uniform_({W})", "he_uniform()"),
    function("xavier-normal", "Xavier (Glorot) normal: truncated", f"xavier_normal_({W})",
             "glorot_normal()", "variance_scaling(1, 'fan_avg', 'normal')"),
    function("xavier-uniform", "Xavier (Glorot) uniform", f"xavier_uniform_({W})",
             "glorot_uniform()"),
    function("normal-init", "Normal: default deviation", f"normal_({W})", "normal()", "normal(1.0)"),
    function("uniform-init", "Uniform: default range", f"uniform_({W})", "uniform()", "uniform(1.0)"),
    function("truncated-normal", "Truncated normal, deviation 1", f"trunc_normal_({W})",
             "truncated_normal(1.0)"),
    function("truncated-normal-bounds", "Truncated normal, deviation 2: bounds absolute or in deviations",
             f"trunc_normal_({W}, std=2.0)", "truncated_normal(2.0)",
             "truncated_normal(2.0, lower=-1, upper=1)"),
    function("orthogonal", "Orthogonal", f"orthogonal_({W})", "orthogonal()"),
    Row(key="orthogonal-scale", title="Orthogonal: norm of the rows",
        torch=f"init.orthogonal_({W}).norm(dim=1)",
        jax="jnp.linalg.norm(initializers.orthogonal()(key, (500, 300), float), axis=0)", play=value,
        seeds=(0,)),
]  # fmt: skip
