"""Activations. `linen.gelu`, `nnx.gelu` and `jax.nn.gelu` are measured each; Equinox users call the last."""

from benchmarks.differences.draws import given, normal
from benchmarks.differences.plays.layers import layer
from benchmarks.differences.plays.values import gradient, value
from benchmarks.differences.row import Draw, Play, Row

WIDE = normal((200,), scale=4.0)


def activation(
    key: str,
    title: str,
    torch: str,
    name: str,
    closed: str = "",
    x: Draw = WIDE,
    play: Play = value,
    flax: bool = True,
) -> Row:
    """Make the row of an activation that the JAX libraries call `name`."""
    return Row(
        key=key,
        title=title,
        torch=torch,
        linen=f"linen.{name}(x)" if flax else "",
        nnx=f"nnx.{name}(x)" if flax else "",
        jax=f"jax.nn.{name}(x)",
        closed=closed,
        inputs={"x": x},
        play=play,
    )


STEP_OUT = "jnp.where(x > 0, x, 0.01 * x)"
ROWS = [
    activation(
        "gelu-approximation", "GELU: exact or tanh", "F.gelu(x)", "gelu", "approximate=False",
        normal((200,)),
    ),
    activation("gelu-tanh", "GELU: both as tanh", "F.gelu(x, approximate='tanh')", "gelu"),
    activation("leaky-relu-slope", "Leaky ReLU: slope", "F.leaky_relu(x)", "leaky_relu"),
    activation(
        "leaky-relu-gradient", "Leaky ReLU: gradient at 0", "F.leaky_relu(x)", "leaky_relu",
        STEP_OUT, given(-1.0, 0.0, 1.0, 7.0), gradient("x"),
    ),
    activation("relu-gradient", "ReLU: gradient at 0", "F.relu(x)", "relu", "",
        given(-1.0, 0.0, 1.0, 7.0), gradient("x")),
    activation("relu6-gradient", "ReLU6: gradient at 0 and 6", "F.relu6(x)", "relu6", "",
        given(-1.0, 0.0, 6.0, 7.0), gradient("x")),
    activation("hardtanh-gradient", "Hardtanh: gradient at ±1", "F.hardtanh(x)", "hard_tanh",
        "jnp.where(jnp.abs(x) < 1, x, jnp.clip(jax.lax.stop_gradient(x), -1, 1))",
        given(-1.0, 0.0, 1.0, 7.0), gradient("x")),
    activation("elu", "ELU: α", "F.elu(x)", "elu"),
    activation("celu", "CELU: α", "F.celu(x)", "celu"),
    activation("selu", "SELU", "F.selu(x)", "selu"),
    activation("silu", "SiLU (swish)", "F.silu(x)", "silu"),
    activation("mish", "Mish", "F.mish(x)", "mish", flax=False),
    activation("hard-sigmoid", "Hard sigmoid", "F.hardsigmoid(x)", "hard_sigmoid"),
    activation("hard-swish", "Hard swish", "F.hardswish(x)", "hard_swish"),
    activation("hard-swish-gradient", "Hard swish: gradient at ±3", "F.hardswish(x)", "hard_swish",
        "", given(-3.0, 0.0, 3.0, 7.0), gradient("x")),
    activation("softplus-threshold", "Softplus: above 20", "F.softplus(x)", "softplus",
        "jnp.where(x > 20, x, jax.nn.softplus(x))", given(-1.0, 20.01, 21.0)),
    activation("softplus", "Softplus: below 20", "F.softplus(x)", "softplus"),
    activation("log-sigmoid", "Log-sigmoid", "F.logsigmoid(x)", "log_sigmoid"),
    activation("softsign", "Softsign", "F.softsign(x)", "soft_sign"),
    activation("glu-halves", "GLU: which half is the gate, which axis", "F.glu(x)", "glu", "",
        normal((6, 8))),
    activation("softmax-axis", "Softmax: the axis if none is given", "F.softmax(x)", "softmax", "axis=-3",
        normal((2, 3, 4, 5))),
    Row(
        key="prelu-slope", title="PReLU: initial slope", torch="nn.PReLU().weight[0]",
        linen="linen.PReLU().init(key, x)['params']['negative_slope']",
        nnx="nnx.PReLU().negative_slope[...]", equinox="eqx.nn.PReLU().negative_slope",
        closed={
            "linen": "linen.PReLU(negative_slope_init=0.25).init(key, x)['params']['negative_slope']",
            "nnx": "nnx.PReLU(negative_slope_init=0.25).negative_slope[...]",
        },
        inputs={"x": normal((3,))}, play=value, seeds=(0,),
    ),
    Row(
        key="prelu", title="PReLU: output of equal slopes", torch="nn.PReLU()", linen="linen.PReLU()",
        nnx="nnx.PReLU()", equinox="eqx.nn.PReLU()", inputs={"x": normal((6, 5))}, play=layer(),
    ),
]  # fmt: skip
