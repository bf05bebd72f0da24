"""The `train` keys: length, batch, precision, and what is logged and saved."""

import re
from enum import Enum

from pipeline.config.fields import ConfigGroup, option, require

EVAL_EVERY = re.compile(r"\s*([1-9]\d*)\s*(steps?|epochs?)?\s*")
COUNT = "a whole number, at least 1"


class Precision(Enum):
    fp32 = "fp32"
    bf16 = "bf16"
    fp64 = "fp64"


class Randomness(Enum):
    native = "native"
    shared = "shared"


class TrainConfig(ConfigGroup, key="train"):
    epochs: int = option(30, "passes over the training set", COUNT)
    steps: int | None = option(
        None, "optimizer updates; wins over train.epochs", "null or at least 1"
    )
    batch_size: int = option(32, "samples per step, over all devices and accumulation", COUNT)
    accumulate: int = option(1, "number of micro-batches per step (gradient accumulation)", COUNT)
    clip_norm: float | None = option(
        None, "scale gradients down to this global norm", "null or above 0"
    )
    clip_value: float | None = option(None, "cut every gradient off at ± this", "null or above 0")
    randomness: Randomness = option(
        Randomness.native, "of dropout: native is fast; shared: the same masks on both backends"
    )
    precision: Precision = option(Precision.fp32, "fp32, bf16 (mixed) or fp64")
    remat: bool = option(
        False, "rematerialise: compute a block's activations again for its gradient; less memory"
    )
    log_every: int = option(10, "steps between two lines of training metrics", COUNT)
    eval_every: int | str = option(1, "epochs between evaluations; 100steps counts steps")
    eval_batch_size: int | None = option(
        None,
        "evaluation batch size; null: train.batch_size; changes no metric",
        "null or at least 1",
    )
    label_smoothing: float = option(
        0.0, "fraction of the target spread over all classes", "in [0, 1)"
    )
    ema: float | None = option(
        None, "EMA decay of the weights; evaluation uses the EMA", "null or in (0, 1)"
    )
    frozen: list[str] = option(
        [], "parameters that stay as they are: bias, norm, or names with wildcards like 'fc.*'"
    )
    monitor: str | None = option(
        None, "metric that says which checkpoint is best, like val/accuracy; null: the task's own"
    )
    early_stopping: int | None = option(
        None, "stop after so many evaluations without a new best", "null or at least 1"
    )
    stop_after: int | None = option(
        None, "stop as if interrupted after this many steps; can be resumed", "null or at least 1"
    )
    profile: int | None = option(
        None, "profile this many steps, after the first few, into profile/", "null or at least 1"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        named = self.monitor is None or self.monitor.startswith("val/")
        allowed = "null, or a metric of the validation set, like val/accuracy"
        hint = f"Set train.monitor=val/{str(self.monitor).rpartition('/')[2]}."
        require(named, "train.monitor", self.monitor, allowed, hint)
        interval = EVAL_EVERY.fullmatch(str(self.eval_every))
        allowed = "a number of epochs, or of steps like 100steps"
        hint = "Set train.eval_every=1 or train.eval_every=100steps."
        require(interval is not None, "train.eval_every", self.eval_every, allowed, hint)
        allowed = f"a divisor of train.batch_size={self.batch_size}"
        divides = self.batch_size % self.accumulate == 0
        require(divides, "train.accumulate", self.accumulate, allowed)
        one_clips = self.clip_norm is None or self.clip_value is None
        allowed = f"null when train.clip_norm={self.clip_norm}"
        require(one_clips, "train.clip_value", self.clip_value, allowed)

    @property
    def eval_batch(self) -> int:
        """Samples in a batch of an evaluation."""
        return self.eval_batch_size or self.batch_size

    def check_shared(self, devices: int) -> None:
        """Refuse a batch that does not divide evenly among so many devices."""
        parts, size = devices * self.accumulate, self.batch_size
        around = {size // parts * parts, -(-size // parts) * parts} - {0}
        split = f" × {self.accumulate} micro-batches" if self.accumulate > 1 else ""
        allowed = f"a multiple of {parts}, for {devices} devices{split}"
        hint = f"Set train.batch_size={' or '.join(map(str, sorted(around)))}."
        require(size % parts == 0, "train.batch_size", size, allowed, hint)
