"""Training loops in NumPy, of one model written in two ways, to be recorded.

The left way: layouts of torch, images as channels, height, width, one fused projection. The right way:
layouts of Flax, channels last, three projections, names nested in another way.
"""

from dataclasses import dataclass, field

import numpy as np

from pipeline.verify import record
from pipeline.verify.recordings.comparison import compare_recordings

WIDTH, CHANNELS, SIDE, CLASSES, BATCH = 6, 3, 4, 5, 8
PIXELS = CHANNELS * SIDE * SIDE
DECAYED = ("embed.weight", "qkv.weight", "head.weight")


@dataclass
class Settings:
    """A loop's settings."""

    optimizer: str = "sgd"  # or `adam`
    rate: float = 0.1
    decay: float = 0.0  # decoupled
    decayed: tuple[str, ...] | None = None  # arrays that decay; None: all
    is_decay_in_gradient: bool = False
    momentum: float = 0.0
    is_nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    has_bias_correction: bool = True
    clip: float | None = None  # of the norm
    clip_value: float = np.inf
    is_clipped_when_recorded: bool = False
    loss_factor: float = 1.0
    gradient_factor: float = 1.0  # the loss without it
    output_factor: float = 1.0  # of the outputs that are recorded
    penalty: float = 0.0
    rates: tuple[float, ...] = ()  # of each step
    frozen: tuple[str, ...] = ()  # arrays without a gradient
    is_rate_recorded: bool = False
    batch_seed: int = 0
    is_reversed: bool = False  # samples in the other order
    image_factor: float | tuple[float, ...] = 1.0  # by channel
    keep: float = 0.9  # share of the running mean that stays
    has_epsilon_inside: bool = False
    has_softmax: bool = False  # before the outputs that are recorded
    start: dict[str, np.ndarray] = field(default_factory=dict)  # replaces weights


def make_weights(dtype=np.float64, seed=0):
    """Weights in the left layout: matrices at random, biases zero, scales one, statistics new."""
    random = np.random.default_rng(seed)

    def matrix(rows, columns):
        return (random.standard_normal((rows, columns)) / np.sqrt(columns)).astype(dtype)

    return {
        "embed.weight": matrix(WIDTH, PIXELS),
        "embed.bias": np.zeros(WIDTH, dtype),
        "scale": np.ones(WIDTH, dtype),
        "qkv.weight": matrix(3 * WIDTH, WIDTH),
        "qkv.bias": np.zeros(3 * WIDTH, dtype),
        "head.weight": matrix(CLASSES, WIDTH),
        "head.bias": np.zeros(CLASSES, dtype),
        "unused": np.full(4, 0.5, dtype),
        "mean": np.zeros(WIDTH, dtype),
    }


def to_right(arrays):
    """Nest, rename, transpose and split left arrays."""
    found = {}
    if "embed.weight" in arrays:
        kernel = arrays["embed.weight"].reshape(WIDTH, CHANNELS, SIDE, SIDE)
        found["embed"] = {"kernel": kernel.transpose(2, 3, 1, 0).reshape(PIXELS, WIDTH)}
        if "embed.bias" in arrays:
            found["embed"]["bias"] = arrays["embed.bias"]
        found["norm"] = {"scale": arrays["scale"][None, None]}
        parts = zip(np.split(arrays["qkv.weight"], 3), np.split(arrays["qkv.bias"], 3), strict=True)
        named = zip(("query", "key", "value"), parts, strict=True)
        found["attention"] = {n: {"kernel": w.T, "bias": b} for n, (w, b) in named}
        found["head"] = {"kernel": arrays["head.weight"].T, "bias": arrays["head.bias"]}
    if "unused" in arrays:
        found["rest"] = [arrays["unused"]]
    if "mean" in arrays:
        found["statistics"] = {"running": arrays["mean"]}
    return found


def forward_backward(weights, images, labels, settings, reverse):
    """Logits, loss, gradients, mean of the features; `reverse` sums the samples in the other order."""
    if reverse:  # the same sums, rounded otherwise
        images, labels = images[::-1], labels[::-1]
    x = images.reshape(len(images), -1)
    h = np.tanh(x @ weights["embed.weight"].T + weights["embed.bias"])
    s = h * weights["scale"]
    q, k, v = np.split(s @ weights["qkv.weight"].T + weights["qkv.bias"], 3, axis=1)
    out = q * k + v
    logits = out @ weights["head.weight"].T + weights["head.bias"]
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = shifted / shifted.sum(1, keepdims=True)
    rows = np.arange(len(labels))
    factor = settings.loss_factor
    loss = factor * -np.log(probabilities[rows, labels]).mean()
    d = probabilities.copy()
    d[rows, labels] -= 1
    d *= logits.dtype.type(factor / len(labels))
    gradients = {"head.weight": d.T @ out, "head.bias": d.sum(0)}
    d = d @ weights["head.weight"]
    d = np.concatenate([d * k, d * q, d], axis=1)
    gradients |= {"qkv.weight": d.T @ s, "qkv.bias": d.sum(0)}
    d = d @ weights["qkv.weight"]
    gradients["scale"] = (d * h).sum(0)
    d = d * weights["scale"] * (1 - h * h)
    gradients |= {"embed.weight": d.T @ x, "embed.bias": d.sum(0)}
    gradients["unused"] = np.zeros_like(weights["unused"])
    if settings.penalty:
        for name in gradients:
            gradients[name] = gradients[name] + 2 * settings.penalty * weights[name]
            loss += settings.penalty * (weights[name] ** 2).sum()
    order = slice(None, None, -1 if reverse else 1)
    shown = probabilities if settings.has_softmax else logits
    for name in settings.frozen:
        del gradients[name]
    scaled = {n: g * g.dtype.type(settings.gradient_factor) for n, g in gradients.items()}
    return settings.output_factor * shown[order], loss, scaled, s.mean(0)


class Optimizer:
    """SGD with momentum, or Adam; decay is decoupled."""

    def __init__(self, settings, weights):
        self.settings, self.step = settings, 0
        self.first = {name: np.zeros_like(array) for name, array in weights.items()}
        self.second = {name: np.zeros_like(array) for name, array in weights.items()}

    def update(self, weights, gradients):
        """New weights."""
        s, self.step = self.settings, self.step + 1
        self.rate = rate = s.rates[self.step - 1] if s.rates else s.rate
        new = dict(weights)
        for name, g in gradients.items():
            decay = s.decay if s.decayed is None or name in s.decayed else 0.0
            if s.is_decay_in_gradient:
                g, decay = g + decay * weights[name], 0.0
            if s.optimizer == "sgd":
                self.first[name] = s.momentum * self.first[name] + g
                direction = self.first[name]
                direction = g + s.momentum * direction if s.is_nesterov else direction
            else:
                one, two = s.betas
                self.first[name] = one * self.first[name] + (1 - one) * g
                self.second[name] = two * self.second[name] + (1 - two) * g * g
                powers = (
                    (1 - one**self.step, 1 - two**self.step) if s.has_bias_correction else (1, 1)
                )
                inside = s.epsilon * s.has_epsilon_inside
                root = np.sqrt(self.second[name] / powers[1] + inside) + s.epsilon - inside
                direction = self.first[name] / powers[0] / root
            change = rate * (direction + decay * weights[name])
            new[name] = (weights[name] - change).astype(weights[name].dtype)
        return new


def clipped(gradients, settings):
    """Gradients clipped element by element, and scaled to a norm."""
    most, bound = settings.clip, settings.clip_value
    gradients = {name: np.clip(g, -bound, bound) for name, g in gradients.items()}
    norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
    return {name: g * min(1.0, most / norm) for name, g in gradients.items()} if most else gradients


def train(
    log, settings=None, *, steps=4, is_right=False, dtype=np.float64, records=None, **changes
):
    """Record a training loop in the left or the right way; `records` are the parts that are given."""
    settings = settings or Settings(**changes)
    weights = make_weights(dtype) | settings.start
    optimizer = Optimizer(settings, weights)
    lay_out = to_right if is_right else lambda arrays: arrays
    log.start(lay_out(weights))
    for step in range(steps):
        random = np.random.default_rng((settings.batch_seed, step))
        images = random.standard_normal((BATCH, CHANNELS, SIDE, SIDE)).astype(dtype)
        labels = random.integers(0, CLASSES, BATCH)
        if settings.is_reversed:
            images, labels = images[::-1], labels[::-1]
        images = images * np.reshape(settings.image_factor, (-1, 1, 1)).astype(dtype)
        outputs, loss, gradients, mean = forward_backward(
            weights, images, labels, settings, is_right
        )
        taken = clipped(gradients, settings)
        weights = optimizer.update(weights, taken)
        keep = dtype(settings.keep)
        weights["mean"] = keep * weights["mean"] + (1 - keep) * mean
        shown = taken if settings.is_clipped_when_recorded else gradients
        given = {
            "loss": loss,
            "batch": (images, labels),
            "outputs": outputs,
            "gradients": lay_out(shown),
        }
        if is_right:
            given["batch"] = {"label": labels, "image": images.transpose(0, 2, 3, 1)}
        if settings.is_rate_recorded:
            given["learning_rate"] = optimizer.rate
        wanted = given if records is None else {name: given[name] for name in records}
        log.step(lay_out(weights), **wanted)


def compare(folder, left=None, right=None, dtype=np.float64, steps=4, **given):
    """Train and record the loop in both ways, and compare the recordings."""
    files = folder / "left.npz", folder / "right.npz"
    for file, settings in zip(files, (left, right), strict=True):
        with record(file) as log:
            is_right = file == files[1]
            train(
                log,
                Settings(**settings or {}),
                steps=steps,
                is_right=is_right,
                dtype=dtype,
                **given,
            )
    return compare_recordings(*files)


def compare_logged(folder, left, right):
    """Record with two functions of a log, and compare the recordings."""
    files = folder / "left.npz", folder / "right.npz"
    for file, write in zip(files, (left, right), strict=True):
        with record(file) as log:
            write(log)
    return compare_recordings(*files)
