"""Initial values: quantiles of many, drawn with each framework's own random numbers."""

from benchmarks.differences.draws import given, integers, normal
from benchmarks.differences.plays.layers import layer
from benchmarks.differences.plays.values import quantiles, value
from benchmarks.differences.row import Row, flax

RANDOM = {"same": 0.05, "seeds": (0,)}
UNIFORM = "initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')"
ROOT = "lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -(100**-0.5), 100**-0.5)"
CELL = "linen.OptimizedLSTMCell(100{}).init(key, (c, c), x)['params']['{}']['kernel']"
DENSE = {"x": normal((1, 500))}
IMAGES = {"x": normal((1, 5, 5, 8))}


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
    """Make the row of an initializer: torch's of [100, 500], JAX's of its transpose."""
    return Row(key=key, title=title, torch=f"init.{torch}",
               jax=f"initializers.{jax}(key, (500, 100), float)", closed=closed and
               f"initializers.{closed}(key, (500, 100), float)", play=quantiles, **RANDOM)  # fmt: skip


W = "torch.empty(100, 500)"
ROWS = [
    layers("dense-init", "Dense: initial kernel", "weight", "nn.Linear(500, 100)", "linen.Dense(100)",
           "nnx.Linear(500, 100, rngs=rngs)", "eqx.nn.Linear(500, 100, key=key)",
           flax(f"kernel_init={UNIFORM}"), DENSE),
    layers("dense-bias-init", "Dense: initial bias", "bias", "nn.Linear(4, 50000)",
           "linen.Dense(50000)", "nnx.Linear(4, 50000, rngs=rngs)",
           "eqx.nn.Linear(4, 50000, key=key)",
           flax("bias_init=lambda key, shape, dtype: jax.random.uniform(key, shape, dtype, -0.5, 0.5)"),
           {"x": normal((1, 4))}),
    layers("conv-init", "Convolution: initial kernel", "weight", "nn.Conv2d(8, 250, 5)",
           "linen.Conv(250, (5, 5))", "nnx.Conv(8, 250, (5, 5), rngs=rngs)",
           "eqx.nn.Conv2d(8, 250, 5, key=key)", flax(f"kernel_init={UNIFORM}"), IMAGES),
    layers("conv-transpose-init", "Transposed convolution: initial kernel", "weight",
           "nn.ConvTranspose2d(8, 250, 5)", "linen.ConvTranspose(250, (5, 5))",
           "nnx.ConvTranspose(8, 250, (5, 5), rngs=rngs)",
           "eqx.nn.ConvTranspose2d(8, 250, 5, key=key)",
           flax("kernel_init=initializers.variance_scaling(8 / 750, 'fan_in', 'uniform')"), IMAGES),
    layers("embedding-init", "Embedding: initial table", "weight", "nn.Embedding(500, 100)",
           "linen.Embed(500, 100)", "nnx.Embed(500, 100, rngs=rngs)",
           "eqx.nn.Embedding(500, 100, key=key)",
           flax("embedding_init=initializers.normal(1.0)"), {"k": integers(500, (2,))}),
    layers("attention-init", "Attention: initial query kernel", "query.weight",
           "nn.MultiheadAttention(224, 4)", "linen.MultiHeadDotProductAttention(4)",
           "nnx.MultiHeadAttention(4, 224, decode=False, rngs=rngs)",
           "eqx.nn.MultiheadAttention(4, 224, key=key)",
           flax("kernel_init=initializers.variance_scaling(0.5, 'fan_in', 'uniform')"),
           {"x": normal((1, 2, 224))}),
    layers("attention-out-init", "Attention: initial output kernel", "out.weight",
           "nn.MultiheadAttention(224, 4)", "linen.MultiHeadDotProductAttention(4)",
           "nnx.MultiHeadAttention(4, 224, decode=False, rngs=rngs)",
           "eqx.nn.MultiheadAttention(4, 224, key=key)",
           flax(f"out_kernel_init={UNIFORM}"), {"x": normal((1, 2, 224))}),
    Row(key="lstm-init", title="LSTM: initial input kernel", torch="nn.LSTM(500, 100).weight_ih_l0",
        linen=CELL.format("", "ii"), nnx="nnx.OptimizedLSTMCell(500, 100, rngs=rngs).dense_i.kernel[...]",
        equinox="eqx.nn.LSTMCell(500, 100, key=key).weight_ih", closed={
            "linen": CELL.format(f", kernel_init={ROOT}", "ii"),
            "nnx": f"nnx.OptimizedLSTMCell(500, 100, kernel_init={ROOT}, rngs=rngs).dense_i.kernel[...]"},
        inputs=DENSE | {"c": given([0.0] * 100)}, play=quantiles, **RANDOM),
    Row(key="lstm-recurrent-init", title="LSTM: initial recurrent kernel",
        torch="nn.LSTM(500, 100).weight_hh_l0", linen=CELL.format("", "hi"),
        nnx="nnx.OptimizedLSTMCell(500, 100, rngs=rngs).dense_h.kernel[...]",
        equinox="eqx.nn.LSTMCell(500, 100, key=key).weight_hh", closed={
            "linen": CELL.format(f", recurrent_kernel_init={ROOT}", "hi"),
            "nnx": f"nnx.OptimizedLSTMCell(500, 100, recurrent_kernel_init={ROOT}, rngs=rngs)"
            ".dense_h.kernel[...]"},
        inputs=DENSE | {"c": given([0.0] * 100)}, play=quantiles, **RANDOM),
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
    Row(key="orthogonal", title="Orthogonal", torch="init.orthogonal_(torch.empty(100, 100))",
        jax="initializers.orthogonal()(key, (100, 100), float)", play=quantiles, same=0.2, seeds=(0,)),
    Row(key="orthogonal-scale", title="Orthogonal: length of the rows",
        torch="init.orthogonal_(torch.empty(100, 100)).norm(dim=1)",
        jax="jnp.linalg.norm(initializers.orthogonal()(key, (100, 100), float), axis=0)", play=value,
        seeds=(0,)),
]  # fmt: skip
