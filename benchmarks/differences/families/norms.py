"""Normalization layers. Inputs of a hundredth show an epsilon; a mean of 100 a variance in one pass."""

from benchmarks.differences.draws import normal
from benchmarks.differences.plays.layers import layer
from benchmarks.differences.plays.values import value
from benchmarks.differences.row import Row, flax

SHAPE = (3, 4, 2, 6)  # one for all: each is compiled anew
SMALL = {"x": normal(SHAPE, scale=0.01)}
FAR = {"x": normal(SHAPE, mean=100, scale=0.01)}
BATCH = {"x": normal(SHAPE, mean=2)}
ROUGH = {"same": 1e-10, "factor": 10.0}  # rounding of 100, divided by 0.01
LINEN_BN = "linen.BatchNorm(use_running_average=False"
NNX_BN = "nnx.BatchNorm(6, use_running_average=False"
EPS, FAST = "epsilon=1e-5", "use_fast_variance=False"

ROWS = [
    Row(key="layer-norm-epsilon", title="LayerNorm: epsilon", torch="nn.LayerNorm(6)",
        linen="linen.LayerNorm()", nnx="nnx.LayerNorm(6, rngs=rngs)", equinox="eqx.nn.LayerNorm(6)",
        closed=EPS, inputs=SMALL, play=layer()),
    Row(key="layer-norm-fast-variance", title="LayerNorm: variance in one pass",
        torch="nn.LayerNorm(6)", linen=f"linen.LayerNorm({EPS})",
        nnx=f"nnx.LayerNorm(6, {EPS}, rngs=rngs)", equinox="eqx.nn.LayerNorm(6)",
        closed=flax(FAST), inputs=FAR, play=layer(),
        **ROUGH),
    Row(key="layer-norm-axes", title="LayerNorm of images: weights per channel or per element",
        torch="nn.LayerNorm([4, 2, 6])", linen=f"linen.LayerNorm({EPS}, reduction_axes=(1, 2, 3))",
        nnx=f"nnx.LayerNorm(6, {EPS}, reduction_axes=(1, 2, 3), rngs=rngs)",
        equinox="eqx.nn.LayerNorm((4, 2, 6))", closed={
            "linen": "feature_axes=(1, 2, 3)"},
        inputs=BATCH, play=layer("parameters")),
    Row(key="rms-norm-epsilon", title="RMSNorm: epsilon", torch="nn.RMSNorm(6)",
        linen="linen.RMSNorm()", nnx="nnx.RMSNorm(6, rngs=rngs)",
        equinox="eqx.nn.RMSNorm(6, use_bias=False)", closed={
            **flax("epsilon=jnp.finfo(float).eps"), "equinox": "eps=float(jnp.finfo(float).eps)"},
        inputs=SMALL, play=layer()),
    Row(key="rms-norm-bias", title="RMSNorm: number of parameters", torch="nn.RMSNorm(6)",
        linen="linen.RMSNorm()", nnx="nnx.RMSNorm(6, rngs=rngs)", equinox="eqx.nn.RMSNorm(6)",
        closed={"equinox": "use_bias=False"}, inputs=SMALL, play=layer("parameters")),
    Row(key="group-norm-epsilon", title="GroupNorm: epsilon", torch="nn.GroupNorm(2, 6)",
        linen="linen.GroupNorm(2)", nnx="nnx.GroupNorm(6, 2, rngs=rngs)",
        equinox="eqx.nn.GroupNorm(2, 6)", closed=EPS, inputs=SMALL, play=layer()),
    Row(key="group-norm-groups", title="GroupNorm: number of groups", torch="nn.GroupNorm(2, 64)",
        linen=f"linen.GroupNorm({EPS})", nnx=f"nnx.GroupNorm(64, {EPS}, rngs=rngs)",
        closed="num_groups=2", inputs={"x": normal((3, 4, 2, 64))}, play=layer()),
    Row(key="group-norm-fast-variance", title="GroupNorm: variance in one pass",
        torch="nn.GroupNorm(2, 6)", linen=f"linen.GroupNorm(2, {EPS})",
        nnx=f"nnx.GroupNorm(6, 2, {EPS}, rngs=rngs)", equinox="eqx.nn.GroupNorm(2, 6)",
        inputs=FAR, play=layer(), **ROUGH),
    Row(key="instance-norm-epsilon", title="InstanceNorm: epsilon",
        torch="nn.InstanceNorm2d(6, affine=True)", linen="linen.InstanceNorm()",
        nnx="nnx.InstanceNorm(6, rngs=rngs)", equinox="eqx.nn.GroupNorm(6, 6)", closed=EPS,
        inputs=SMALL, play=layer()),
    Row(key="instance-norm-affine", title="InstanceNorm: number of parameters",
        torch="nn.InstanceNorm2d(6)", linen="linen.InstanceNorm()",
        nnx="nnx.InstanceNorm(6, rngs=rngs)", equinox="eqx.nn.GroupNorm(6, 6)", closed={
            **flax("use_scale=False, use_bias=False"), "equinox": "channelwise_affine=False"},
        inputs=SMALL, play=layer("parameters")),
    Row(key="batch-norm-epsilon", title="BatchNorm: epsilon, in training",
        torch="nn.BatchNorm2d(6)", linen=f"{LINEN_BN})", nnx=f"{NNX_BN}, rngs=rngs)",
        equinox="eqx.nn.BatchNorm(6, 'batch', mode='batch')", inputs=SMALL, play=layer()),
    Row(key="batch-norm-mode", title="BatchNorm: statistics of the batch in training, second step",
        torch="nn.BatchNorm2d(6)", linen=f"{LINEN_BN})", nnx=f"{NNX_BN}, rngs=rngs)",
        equinox="eqx.nn.BatchNorm(6, 'batch')", closed={"equinox": "mode='batch'"},
        inputs=BATCH, play=layer(steps=2)),
    Row(key="batch-norm-momentum", title="BatchNorm: momentum (running mean after a step)",
        torch="nn.BatchNorm2d(6)", linen=f"{LINEN_BN})", nnx=f"{NNX_BN}, rngs=rngs)",
        equinox="eqx.nn.BatchNorm(6, 'batch', mode='batch')", closed="momentum=0.9",
        inputs=BATCH, play=layer("running_mean")),
    Row(key="batch-norm-running-variance", title="BatchNorm: running variance, n or n − 1",
        torch="nn.BatchNorm2d(6)", linen=f"{LINEN_BN}, momentum=0.9)",
        nnx=f"{NNX_BN}, momentum=0.9, rngs=rngs)",
        equinox="eqx.nn.BatchNorm(6, 'batch', mode='batch', momentum=0.9)",
        closed={"linen": "flax_impl.norms.BatchNorm(param_dtype=float)"},
        inputs=BATCH, play=layer("running_var", steps=3)),
    Row(key="batch-norm-evaluation", title="BatchNorm: evaluation after three steps, momentum equal",
        torch="nn.BatchNorm2d(6)", linen=f"{LINEN_BN}, momentum=0.9)",
        nnx=f"{NNX_BN}, momentum=0.9, rngs=rngs)",
        equinox="eqx.nn.BatchNorm(6, 'batch', mode='batch', momentum=0.9)",
        closed={"linen": "flax_impl.norms.BatchNorm(param_dtype=float)"},
        inputs=BATCH, play=layer("evaluation", steps=3)),
    Row(key="batch-norm-fast-variance", title="BatchNorm: variance in one pass",
        torch="nn.BatchNorm2d(6)", linen=f"{LINEN_BN})", nnx=f"{NNX_BN}, rngs=rngs)",
        equinox="eqx.nn.BatchNorm(6, 'batch', mode='batch')",
        closed=flax(FAST), inputs=FAR, play=layer(),
        **ROUGH),
    Row(key="batch-norm-single-value", title="BatchNorm: one value per channel, in training",
        torch="nn.BatchNorm1d(6)", linen=f"{LINEN_BN})", nnx=f"{NNX_BN}, rngs=rngs)",
        equinox="eqx.nn.BatchNorm(6, 'batch', mode='batch')",
        inputs={"x": normal((1, 6))}, play=layer(), refusals=True, seeds=(0,)),
    Row(key="standardize", title="Normalization without weights: epsilon",
        torch="F.layer_norm(x, x.shape[-1:])", jax="jax.nn.standardize(x)",
        inputs=SMALL, play=value),
]  # fmt: skip
