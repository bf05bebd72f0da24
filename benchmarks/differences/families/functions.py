"""Functions of arrays, and gradients where there is none."""

from benchmarks.differences.draws import given, integers, normal
from benchmarks.differences.plays.values import gradient, value
from benchmarks.differences.row import Row

X = {"x": normal((6, 5))}


def gradient_at(key: str, title: str, torch: str, jax: str, x: tuple, closed: str = "") -> Row:
    """Make the row of a gradient at points where the function has none."""
    return Row(
        key=key, title=title, torch=torch, jax=jax, closed=closed, inputs={"x": given(*x)},
        play=gradient("x"), seeds=(0,),
    )  # fmt: skip


ROWS = [
    Row(key="standard-deviation", title="Standard deviation: n or n − 1", torch="torch.std(x, 0)",
        jax="jnp.std(x, 0)", closed="ddof=1", inputs=X, play=value),
    Row(key="variance", title="Variance: n or n − 1", torch="torch.var(x, 0)",
        jax="jnp.var(x, 0)", closed="ddof=1", inputs=X, play=value),
    Row(key="median-even", title="Median of an even number", torch="torch.median(x, 0).values",
        jax="jnp.median(x, 0)", closed="jnp.quantile(x, 0.5, 0, method='lower')", inputs=X, play=value),
    Row(key="quantile", title="Quantile", torch="torch.quantile(x, 0.3, 0)",
        jax="jnp.quantile(x, 0.3, 0)", inputs=X, play=value),
    Row(key="round-half", title="Rounding of halves", torch="torch.round(x)", jax="jnp.round(x)",
        inputs={"x": given(-1.5, -0.5, 0.5, 1.5, 2.5)}, play=value, seeds=(0,)),
    Row(key="remainder-sign", title="Remainder of negative numbers", torch="torch.fmod(x, 3)",
        jax="jnp.mod(x, 3)", closed="jnp.fmod(x, 3)", inputs=X, play=value),
    Row(key="argmax-ties", title="Argmax of equal numbers", torch="torch.argmax(x, 0)",
        jax="jnp.argmax(x, 0)", inputs={"x": integers(3, (9, 4))}, play=value),
    Row(key="pad-order", title="Padding: which axis first", torch="F.pad(x, (1, 2, 0, 1))",
        jax="jnp.pad(x, ((1, 2), (0, 1)))", closed="jnp.pad(x, ((0, 1), (1, 2)))",
        inputs=X, play=value),
    Row(key="one-hot-out-of-range", title="One-hot of a class that is not there",
        torch="F.one_hot(k, 3)", jax="jax.nn.one_hot(k, 3)", inputs={"k": given(0, 3)}, play=value,
        refusals=True, seeds=(0,)),
    Row(key="index-out-of-range", title="Index out of range", torch="x[k]", jax="x[k]",
        inputs={"x": normal((3,)), "k": given(0, 3)}, play=value, refusals=True, seeds=(0,)),
    Row(key="normalize-zero", title="Normalization of a zero vector", torch="F.normalize(x, dim=1)",
        jax="x / jnp.linalg.norm(x, axis=1, keepdims=True)",
        closed="x / jnp.maximum(jnp.linalg.norm(x, axis=1, keepdims=True), 1e-12)",
        inputs={"x": given([0.0, 0.0], [3.0, 4.0])}, play=value, seeds=(0,)),
    gradient_at("abs-gradient", "Absolute value: gradient at 0", "torch.abs(x)", "jnp.abs(x)",
        (-1.0, 0.0, 1.0), "jnp.sign(jax.lax.stop_gradient(x)) * x"),
    gradient_at("clamp-gradient", "Clamp: gradient at the bounds", "torch.clamp(x, 0, 1)",
        "jnp.clip(x, 0, 1)", (-1.0, 0.0, 0.5, 1.0, 2.0),
        "jnp.where((x > 0) & (x < 1), x, jnp.clip(jax.lax.stop_gradient(x), 0, 1))"),
    gradient_at("norm-gradient", "Norm: gradient at 0", "torch.linalg.vector_norm(x)",
        "jnp.linalg.norm(x)", (0.0, 0.0), "optax.safe_norm(x, 0.0)"),
    gradient_at("max-gradient", "Maximum: gradient of equal numbers", "torch.amax(x)",
        "jnp.max(x)", (1.0, 3.0, 3.0)),
    gradient_at("maximum-gradient", "Maximum of two: gradient of equal numbers",
        "torch.maximum(x[0], x[1])", "jnp.maximum(x[0], x[1])", (3.0, 3.0)),
    gradient_at("where-gradient", "Gradient through the branch not taken",
        "torch.where(x > 0, torch.sqrt(x), 0.0)", "jnp.where(x > 0, jnp.sqrt(x), 0.0)", (-1.0, 4.0),
        ),
    gradient_at("prod-gradient", "Product: gradient with a zero", "torch.prod(x)", "jnp.prod(x)",
        (0.0, 2.0, 3.0)),
    gradient_at("cumprod-gradient", "Running product: gradient with a zero", "torch.cumprod(x, 0)",
        "jnp.cumprod(x)", (0.0, 2.0, 3.0)),
]  # fmt: skip
