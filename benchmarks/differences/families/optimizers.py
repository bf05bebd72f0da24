"""Optimizers: how far twelve steps with the same gradients move the weights; clipping and averages."""

from benchmarks.differences.plays.optimizers import averaged, clipped, steps
from benchmarks.differences.row import Play, Row

STEPS = steps()
TINY = steps(scale=1e-6)  # shows an epsilon
TORCH = (
    "lightning_impl.optimizers.build_optimizer("
    "configs.OPTIMIZERS['{}'](lr=lr, weight_decay=0), named.items())"
)


def optimizer(
    key: str,
    title: str,
    torch: str,
    optax: str,
    closed: str = "",
    play: Play = STEPS,
    **options: float,
) -> Row:
    """Make the row of an optimizer; torch's is called with `params` and `lr`."""
    return Row(key=key, title=title, torch=torch, optax=optax, closed=closed, play=play,
               **options)  # fmt: skip


def ours(name: str) -> str:
    """Make the call of this repository's optimizer for JAX, which is torch's."""
    config = f"configs.OPTIMIZERS['{name}'](weight_decay=0)"
    return f"optax.chain(flax_impl.optimizers.build_optimizer({config}), optax.scale_by_learning_rate(lr))"


def decayed(transform: str) -> str:
    """Make a chain with L2 regularization, torch's `weight_decay` of most optimizers."""
    return f"optax.chain(optax.add_decayed_weights(0.1), {transform})"


ROWS = [
    optimizer("sgd", "SGD", "optim.SGD(params, lr)", "optax.sgd(lr)"),
    optimizer("sgd-momentum", "SGD: momentum", "optim.SGD(params, lr, momentum=0.9)",
              "optax.sgd(lr, momentum=0.9)", play=steps(scheduled=True)),
    optimizer("sgd-nesterov", "SGD: Nesterov's momentum",
              "optim.SGD(params, lr, momentum=0.9, nesterov=True)",
              "optax.sgd(lr, momentum=0.9, nesterov=True)"),
    optimizer("sgd-dampening", "SGD: dampening",
              "optim.SGD(params, lr, momentum=0.9, dampening=0.9)", "optax.sgd(lr, momentum=0.9)"),
    optimizer("sgd-weight-decay", "SGD: weight decay, before or after the momentum",
              "optim.SGD(params, lr, momentum=0.9, weight_decay=0.1)",
              "optax.chain(optax.trace(0.9), optax.add_decayed_weights(0.1), "
              "optax.scale_by_learning_rate(lr))", decayed("optax.sgd(lr, momentum=0.9)")),
    optimizer("adam", "Adam", "optim.Adam(params, lr)", "optax.adam(lr)"),
    optimizer("adam-epsilon", "Adam: place of epsilon", "optim.Adam(params, lr)", "optax.adam(lr)",
              play=TINY),
    optimizer("adam-epsilon-root", "Adam: epsilon inside the root",
              "optim.Adam(params, lr)", "optax.adam(lr, eps=0.0, eps_root=1e-8)",
              "eps=1e-8, eps_root=0.0", play=TINY),
    optimizer("adam-weight-decay", "Adam with weight decay: L2, or decoupled",
              "optim.Adam(params, lr, weight_decay=0.1)", "optax.adamw(lr, weight_decay=0.1)",
              decayed("optax.adam(lr)")),
    optimizer("adamw-weight-decay", "AdamW: default weight decay", "optim.AdamW(params, lr)",
              "optax.adamw(lr)", "weight_decay=0.01"),
    optimizer("adamw-schedule", "AdamW: weight decay follows the schedule",
              "optim.AdamW(params, lr, weight_decay=0.1)", "optax.adamw(lr, weight_decay=0.1)",
              play=steps(scheduled=True)),
    optimizer("amsgrad", "AMSGrad: largest second moment, corrected or raw",
              "optim.Adam(params, lr, amsgrad=True)", "optax.amsgrad(lr)", ours("amsgrad"),
              play=steps(falling=True)),
    optimizer("adamax", "Adamax", "optim.Adamax(params, lr)", "optax.adamax(lr)"),
    optimizer("adamax-epsilon", "Adamax: place of epsilon", "optim.Adamax(params, lr)",
              "optax.adamax(lr)", play=TINY),
    optimizer("nadam", "NAdam: schedule of the momentum", "optim.NAdam(params, lr)", "optax.nadam(lr)",
              ours("nadam")),
    optimizer("radam", "RAdam", "optim.RAdam(params, lr)", "optax.radam(lr)", ours("radam")),
    optimizer("radam-epsilon", "RAdam: epsilon before or after the correction",
              "optim.RAdam(params, lr)", "optax.radam(lr)", ours("radam"), play=TINY),
    optimizer("rmsprop-decay", "RMSprop: decay", "optim.RMSprop(params, lr)", "optax.rmsprop(lr)",
              "decay=0.99, eps_in_sqrt=False"),
    optimizer("rmsprop-epsilon", "RMSprop: epsilon inside the root", "optim.RMSprop(params, lr)",
              "optax.rmsprop(lr, decay=0.99)", "eps_in_sqrt=False", play=TINY),
    optimizer("rmsprop-momentum", "RMSprop: momentum after or before the learning rate",
              "optim.RMSprop(params, lr, momentum=0.9)",
              "optax.rmsprop(lr, decay=0.99, eps_in_sqrt=False, momentum=0.9)",
              "optax.chain(optax.scale_by_rms(0.99, eps_in_sqrt=False), optax.trace(0.9), "
              "optax.scale_by_learning_rate(lr))", play=steps(scheduled=True)),
    optimizer("rmsprop-centered", "RMSprop: centered", "optim.RMSprop(params, lr, centered=True)",
              "optax.rmsprop(lr, decay=0.99, centered=True)", "eps_in_sqrt=False"),
    optimizer("adagrad-accumulator", "Adagrad: initial accumulator, place of epsilon",
              "optim.Adagrad(params, lr)", "optax.adagrad(lr)",
              ours("adagrad")),
    optimizer("adadelta", "Adadelta", "optim.Adadelta(params, lr)", "optax.adadelta(lr)"),
    optimizer("rprop", "Rprop", "optim.Rprop(params, lr)", "optax.rprop(lr)"),
    optimizer("adafactor", "Adafactor", "optim.Adafactor(params, lr)", "optax.adafactor(lr)"),
    optimizer("muon", "Muon: orthogonalization in bfloat16",
              "optim.Muon(params[:1], lr, weight_decay=0.0)", "optax.contrib.muon(lr)",
              play=steps(absent="bias"), factor=10.0),
    optimizer("lion", "Lion: weight decay", TORCH.format("lion"), "optax.lion(lr)", "weight_decay=0.0"),
    optimizer("lamb", "LAMB", TORCH.format("lamb"), "optax.lamb(lr)"),
    optimizer("no-gradient", "A parameter without a gradient is decayed",
              "optim.AdamW(params, lr, weight_decay=0.1)", "optax.adamw(lr, weight_decay=0.1)",
              "optax.partition({'train': optax.adamw(lr, weight_decay=0.1), 'freeze': "
              "optax.set_to_zero()}, {'kernel': 'train', 'bias': 'freeze'})",
              play=steps(absent="bias")),
    optimizer("accumulation", "Gradients of two batches: their sum or their mean",
              "optim.SGD(params, lr)", "optax.MultiSteps(optax.sgd(lr), 2).gradient_transformation()",
              "optax.MultiSteps(optax.chain(optax.scale(2.0), optax.sgd(lr)), 2)"
              ".gradient_transformation()", play=steps(accumulate=2), same=2e-6),
    optimizer("clip-norm", "Clipping by the global norm: 1e-6 in the denominator",
              "utils.clip_grad_norm_(params, 1.0)", "optax.clip_by_global_norm(1.0)",
              "optax.stateless(lambda g, _: jax.tree.map(lambda a: a * jnp.minimum(1, 1 / "
              "(optax.global_norm(g) + 1e-6)), g))", play=clipped(3.0)),
    optimizer("clip-norm-below", "Clipping by the global norm: gradients below it",
              "utils.clip_grad_norm_(params, 1.0)", "optax.clip_by_global_norm(1.0)",
              play=clipped(0.01)),
    optimizer("clip-value", "Clipping by value", "utils.clip_grad_value_(params, 0.5)",
              "optax.clip(0.5)", play=clipped(1.0)),
    optimizer("ema-start", "Average of weights: starts at them, or at zero and corrected",
              "optim.swa_utils.AveragedModel(model, "
              "multi_avg_fn=optim.swa_utils.get_ema_multi_avg_fn(0.9))", "optax.ema(0.9)",
              "optax.incremental_update(w, average, 1 - 0.9)", play=averaged),
]  # fmt: skip
