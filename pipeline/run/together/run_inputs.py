"""Runs that one program can train at once: what may differ between them, and why a run cannot take part."""

import json
from collections.abc import Sequence

from pipeline.backend_specs import BACKENDS
from pipeline.config.experiment import Config, Mode, plain
from pipeline.config.optimizers import OwnOptimizerConfig
from pipeline.config.train import Randomness
from pipeline.storage.signature import flat

# Keys and groups that are read between the steps, for each run by itself.
BETWEEN_STEPS = (
    "name", "resume", "tags", "sweep", "seed", "schedule", "optimizer.lr", "train.early_stopping",
    "train.monitor",
)  # fmt: skip
# Numbers that a step takes as inputs. Runs with null or 0 have another program than those with a number, but
# for a weight decay of 0: without dropout, smoothing, clipping, momentum or averages nothing is computed.
NUMBERS = (
    "optimizer.weight_decay", "optimizer.eps", "optimizer.momentum", "train.clip_norm",
    "train.clip_value", "train.label_smoothing", "train.ema", "model.dropout", "model.drop_path",
)  # fmt: skip

# Numbers that part groups all the same, by the start of their keys, and why they are no inputs.
CONSTANTS = {
    # betas, alpha, rho, lr_decay, momentum_decay and Muon's momentum, on JAX: of β a step takes log β and
    # 1 - β, which lose four digits if β is a float32 on the device; torch has an optimizer for each block
    # of runs that agree in them. On both lr_factors, and Adagrad's initial_accumulator_value: of the layout.
    "optimizer": "a constant of the update, which is computed in double precision before",
    # norm_epsilon: GroupNorm, LayerNorm and torch's functions take a Python number alone.
    "model": "the layers of one program have one",
    # temperature, first_beta, last_beta: of the loss and of the noise that the data draws.
    "task": "runs that train at once share task and data",
    # Fractions of splits, and shares of augmentations.
    "dataset": "runs that train at once share the data",
}

DECAY = "optimizer.weight_decay"
DRAWING = ("model.dropout", "model.drop_path")  # rates of layers that draw random numbers


def numbers_of(config: Config) -> dict[str, float]:
    """Return the numbers of a run that a step takes as inputs, by key; see `NUMBERS`."""
    keys = flat(plain(config))
    found = {key: keys.get(key) for key in NUMBERS if not _is_constant(key, config)}
    return {
        key: float(value)
        for key, value in found.items()
        if isinstance(value, int | float) and (value or key == DECAY)
    }


def shape_of(config: Config) -> str:
    """Return a text that is the same for runs that one program can train at once."""
    keys, spec = flat(plain(config)), BACKENDS.get(config.backend.name)
    numbers = {*numbers_of(config), *(spec.numbers if spec else ())}
    kept = {
        key: "a number" if key in numbers else value
        for key, value in keys.items()
        if not any(key == one or key.startswith(f"{one}.") for one in BETWEEN_STEPS)
    }
    return json.dumps(kept, sort_keys=True, default=str)


def differing_keys(shape: str, others: Sequence[str]) -> list[str]:
    """Return the keys in which a shape differs from the most similar of others; see `shape_of`."""
    own = json.loads(shape)
    found = []
    for other in map(json.loads, others):
        keys = [key for key in own | other if own.get(key) != other.get(key)]
        found.append(keys)
    return min(found, key=len, default=[])


def described(key: str, shape: str) -> str:
    """Return a key in which a shape differs from others; a number with the reason why it is no input."""
    value, group = json.loads(shape).get(key), key.partition(".")[0]
    if key in NUMBERS:
        return f"{key} (0 or null is another program)"
    numbers = value if isinstance(value, list) else [value]
    is_number = all(isinstance(one, float) for one in numbers)
    return f"{key} ({CONSTANTS[group]})" if is_number and group in CONSTANTS else key


def obstacle(config: Config) -> str | None:
    """Return why a run cannot be trained at once with others, as a clause; None if it can."""
    accelerator, backend = config.accelerator, config.backend.name
    spec = BACKENDS.get(backend)
    if spec is None or not spec.vectorizes:
        return f"backend={backend} trains one run at a time"
    if config.mode is not Mode.train:
        return f"mode={config.mode.name} trains nothing"
    if config.resume not in (None, "auto"):
        return "resume=PATH is of one run"
    if (accelerator.devices, accelerator.nodes) != (1, 1):
        return "only runs on one device train at once (accelerator.devices=1 accelerator.nodes=1)"
    if config.train.profile is not None:
        return "train.profile is of one run"
    keys = flat(plain(config))
    for key, reasons in spec.trains_alone.items():
        if reason := reasons.get(keys.get(key)):
            return f"{key.removesuffix('.name')}={str(keys[key]).lower()}: {reason}"
    is_native = config.train.randomness is Randomness.native
    if is_native and not spec.maps_native_draws:
        drawing = [key for key in DRAWING if keys.get(key)]
        if drawing:
            return (
                f"{drawing[0]}={keys[drawing[0]]} draws native random numbers, which "
                f"{backend} draws for one run at a time; set train.randomness=shared"
            )
    return None


def _is_constant(key: str, config: Config) -> bool:
    """Return whether a number is a constant of this optimizer's steps.

    Muon computes with 1 - momentum, which is exact only for a constant.
    """
    optimizer = config.optimizer
    if not key.startswith("optimizer."):
        return False
    return isinstance(optimizer, OwnOptimizerConfig) or (
        key == "optimizer.momentum" and optimizer.name not in ("sgd", "rmsprop")
    )
