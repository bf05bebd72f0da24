"""Losses: predictions `x`, logits `z` or probabilities `p`, targets `y`, classes `k`."""

from benchmarks.differences.draws import given, integers, log_probabilities, normal, uniform
from benchmarks.differences.plays.values import gradient, value
from benchmarks.differences.row import Row

XY = {"x": normal((6, 5)), "y": normal((6, 5))}
CLASSES = {"z": normal((6, 5)), "k": integers(5, (6,))}
ONE_HOT = "jax.nn.one_hot(k, 5)"
CE = "optax.softmax_cross_entropy_with_integer_labels(z, k)"
LOGS = {"q": log_probabilities((6, 5)), "p": log_probabilities((6, 5))}
BINARY = {"z": normal((6, 5), scale=3), "y": uniform((6, 5))}
TRIPLET = {name: normal((6, 5)) for name in "apn"}


def loss(
    key: str,
    title: str,
    torch: str,
    optax: str,
    inputs: dict,
    closed: str = "",
    side: str = "",
    jax: str = "",
) -> Row:
    """Make the row of a loss; `side` closes it on torch's."""
    return Row(key=key, title=title, torch=torch, optax=optax, jax=jax, closed=closed,
               torch_closed=side, inputs=inputs, play=value)  # fmt: skip


ROWS = [
    loss("loss-reduction", "Squared error: mean, or one number each", "F.mse_loss(x, y)",
         "optax.squared_error(x, y)", XY, "optax.squared_error(x, y).mean()"),
    loss("mse-half", "Squared error: with a half", "F.mse_loss(x, y)", "optax.l2_loss(x, y).mean()",
         XY, "optax.squared_error(x, y).mean()"),
    loss("huber", "Huber: δ", "F.huber_loss(x, y)", "optax.huber_loss(x, y).mean()", XY),
    loss("smooth-l1", "Smooth L1 and Huber: β = δ = 0.5", "F.smooth_l1_loss(x, y, beta=0.5)",
         "optax.huber_loss(x, y, delta=0.5).mean()", XY,
         "optax.huber_loss(x, y, delta=0.5).mean() / 0.5"),
    loss("cross-entropy", "Cross-entropy of classes", "F.cross_entropy(z, k)", f"{CE}.mean()", CLASSES),
    loss("cross-entropy-axis", "Cross-entropy of [batch, classes, length]", "F.cross_entropy(z, k)",
         f"{CE}.mean()", {"z": normal((6, 5, 5)), "k": integers(5, (6, 5))},
         "optax.softmax_cross_entropy_with_integer_labels(z.swapaxes(1, 2), k).mean()"),
    loss("cross-entropy-soft", "Cross-entropy of probabilities",
         "F.cross_entropy(z, torch.softmax(y, 1))",
         "optax.softmax_cross_entropy(z, jax.nn.softmax(y)).mean()",
         {"z": normal((6, 5)), "y": normal((6, 5))}),
    loss("label-smoothing", "Cross-entropy: label smoothing",
         "F.cross_entropy(z, k, label_smoothing=0.1)",
         f"optax.softmax_cross_entropy(z, optax.smooth_labels({ONE_HOT}, 0.1)).mean()", CLASSES),
    loss("class-weights", "Cross-entropy: class weights", "F.cross_entropy(z, k, weight=w)",
         f"({CE} * w[k]).mean()", CLASSES | {"w": uniform((5,), low=0.5, high=2)},
         f"({CE} * w[k]).sum() / w[k].sum()"),
    loss("ignore-index", "Cross-entropy: ignored targets",
         "F.cross_entropy(z, k, ignore_index=0)", f"({CE} * (k != 0)).mean()", CLASSES,
         f"({CE} * (k != 0)).sum() / (k != 0).sum()"),
    loss("ignore-index-default", "Cross-entropy: a target of −100", "F.cross_entropy(z, k)",
         f"{CE}.mean()", {"z": normal((6, 5)), "k": given(0, 1, 2, 3, 4, -100)},
         "jnp.where(k >= 0, optax.softmax_cross_entropy_with_integer_labels(z, jnp.maximum(k, 0)), 0)"
         ".sum() / (k >= 0).sum()"),
    loss("bce-logits", "Binary cross-entropy of logits", "F.binary_cross_entropy_with_logits(z, y)",
         "optax.sigmoid_binary_cross_entropy(z, y).mean()", BINARY),
    loss("bce-positive-weight", "Binary cross-entropy: pos_weight",
         "F.binary_cross_entropy_with_logits(z, y, pos_weight=torch.tensor(3.0))",
         "(optax.sigmoid_binary_cross_entropy(z, y) * (1 + 2 * y)).mean()", BINARY,
         "-(3 * y * jax.nn.log_sigmoid(z) + (1 - y) * jax.nn.log_sigmoid(-z)).mean()"),
    loss("bce-zero", "Binary cross-entropy of probabilities 0 and 1",
         "F.binary_cross_entropy(p, y)", "",
         {"p": given(0.0, 0.5, 1.0), "y": given(1.0, 1.0, 0.0)},
         "-(y * jnp.maximum(jnp.log(p), -100) + (1 - y) * jnp.maximum(jnp.log1p(-p), -100)).mean()",
         jax="-(y * jnp.log(p) + (1 - y) * jnp.log1p(-p)).mean()"),
    loss("focal", "Focal loss: α", "torchvision.ops.sigmoid_focal_loss(z, y, reduction='mean')",
         "optax.sigmoid_focal_loss(z, y).mean()", BINARY,
         "optax.sigmoid_focal_loss(z, y, alpha=0.25).mean()"),
    loss("kl-reduction", "KL divergence: reduction", "F.kl_div(q, torch.exp(p))",
         "optax.kl_divergence(q, jnp.exp(p)).mean()", LOGS, side="reduction='batchmean'"),
    loss("kl-direction", "KL divergence: which of the two comes first",
         "F.kl_div(q, p, reduction='batchmean', log_target=True)",
         "optax.losses.kl_divergence_with_log_targets(p, q).mean()", LOGS,
         "optax.losses.kl_divergence_with_log_targets(q, p).mean()"),
    loss("cosine-epsilon", "Cosine similarity: epsilon, of vectors of 1e-9",
         "F.cosine_similarity(x, y)", "optax.cosine_similarity(x, y)",
         {"x": normal((6, 5), scale=1e-9), "y": normal((6, 5), scale=1e-9)},
         "(x * y).sum(-1) / jnp.maximum(jnp.linalg.norm(x, axis=-1), 1e-8)"
         " / jnp.maximum(jnp.linalg.norm(y, axis=-1), 1e-8)"),
    loss("cosine-zero", "Cosine similarity of a zero vector", "F.cosine_similarity(x, y)",
         "optax.cosine_similarity(x, y)", {"x": given([0.0, 0.0]), "y": given([3.0, 4.0])},
         "epsilon=1e-8"),
    loss("hinge", "Hinge of labels ±1", "torch.clamp(1 - x * s, min=0).mean()",
         "optax.hinge_loss(x, s).mean()", {"x": normal((5,)), "s": given(1, -1, 1, 1, -1)}),
    loss("multiclass-hinge", "Hinge of several classes: all of them, or the worst",
         "F.multi_margin_loss(z, k)", "optax.losses.multiclass_hinge_loss(z, k).mean()", CLASSES,
         "(jnp.maximum(1 - jnp.take_along_axis(z, k[:, None], 1) + z, 0).sum(1) - 1).mean() / 5"),
    loss("triplet", "Triplet margin: 1e-6 added to the differences",
         "F.triplet_margin_loss(a, p, n)", "optax.losses.triplet_margin_loss(a, p, n).mean()",
         TRIPLET, "jnp.maximum(jnp.linalg.norm(a - p + 1e-6, axis=-1)"
         " - jnp.linalg.norm(a - n + 1e-6, axis=-1) + 1, 0).mean()"),
    loss("soft-margin", "Soft margin of labels ±1", "F.soft_margin_loss(x, s)", "",
         {"x": normal((5,)), "s": given(1, -1, 1, 1, -1)},
         jax="jax.nn.softplus(-x * s).mean()"),
    loss("ctc-reduction", "CTC: mean, divided by the lengths of the targets",
         "F.ctc_loss(z.log_softmax(2).transpose(0, 1), k + 1, torch.tensor([8, 8]), torch.tensor([3, 3]))",
         "optax.ctc_loss(z, jnp.zeros((2, 8)), k + 1, jnp.zeros((2, 3))).mean()",
         {"z": normal((2, 8, 5)), "k": integers(4, (2, 3))},
         "(optax.ctc_loss(z, jnp.zeros((2, 8)), k + 1, jnp.zeros((2, 3))) / 3).mean()"),
    Row(key="l1-gradient", title="Absolute error: gradient where it is zero",
        torch="F.l1_loss(x, y)", jax="jnp.abs(x - y).mean()",
        closed="(jnp.sign(jax.lax.stop_gradient(x - y)) * (x - y)).mean()",
        inputs={"x": given(1.0, 2.0), "y": given(1.0, 5.0)}, play=gradient("x"), seeds=(0,)),
]  # fmt: skip
