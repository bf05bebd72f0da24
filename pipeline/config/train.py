"""The `train` keys: how long, how much at once, how precisely, and what is looked at meanwhile."""

import re
from dataclasses import dataclass
from enum import Enum

from pipeline.config.fields import option, require

EVAL_EVERY = re.compile(r"\s*([1-9]\d*)\s*(steps?|epochs?)?\s*")


class Precision(Enum):
    fp32 = "fp32"
    bf16 = "bf16"
    fp64 = "fp64"


class Randomness(Enum):
    native = "native"
    shared = "shared"


@dataclass(kw_only=True)
class TrainConfig:
    epochs: int = option(30, "passes over the training set")
    steps: int | None = option(None, "optimizer updates; wins over train.epochs")
    batch_size: int = option(32, "samples per step, over all devices and accumulation")
    accumulate: int = option(1, "split each batch into so many parts, one after the other")
    clip_norm: float | None = option(None, "scale gradients down to this global norm")
    clip_value: float | None = option(None, "cut every gradient off at ± this")
    randomness: Randomness = option(
        Randomness.native, "of dropout: native is fast; shared: the same masks on both backends"
    )
    precision: Precision = option(Precision.fp32, "fp32, bf16 (mixed) or fp64")
    log_every: int = option(10, "steps between two lines of training metrics")
    eval_every: int | str = option(1, "epochs between evaluations; 100steps counts steps")
    eval_batch_size: int | None = option(None, "null: as train.batch_size; changes no metric")
    label_smoothing: float = option(0.0, "share of the target spread over all classes")
    ema: float | None = option(None, "decay of an average of the weights, used to evaluate")
    frozen: list[str] = option(
        [], "parameters that stay as they are: bias, norm, or names with wildcards like 'fc.*'"
    )
    early_stopping: int | None = option(None, "stop after so many evaluations without a new best")
    stop_after: int | None = option(None, "end after so many steps as an interruption would")
    profile: int | None = option(None, "trace so many steps after the first ones into profile/")

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "accumulate", "log_every"):
            value = getattr(self, name)
            require(value >= 1, f"train.{name}", value, "a whole number, at least 1")
        for name in ("steps", "eval_batch_size", "early_stopping", "stop_after", "profile"):
            value = getattr(self, name)
            require(value is None or value >= 1, f"train.{name}", value, "null or at least 1")
        require(
            EVAL_EVERY.fullmatch(str(self.eval_every)) is not None,
            "train.eval_every",
            self.eval_every,
            "a number of epochs, or of steps like 100steps",
            "Set train.eval_every=1 or train.eval_every=100steps.",
        )
        require(
            self.batch_size % self.accumulate == 0,
            "train.accumulate",
            self.accumulate,
            f"a divisor of train.batch_size={self.batch_size}",
        )
        for name in ("clip_norm", "clip_value"):
            value = getattr(self, name)
            require(value is None or value > 0, f"train.{name}", value, "null or above 0")
        require(
            self.clip_norm is None or self.clip_value is None,
            "train.clip_value",
            self.clip_value,
            f"null when train.clip_norm={self.clip_norm}",
        )
        require(
            0 <= self.label_smoothing < 1,
            "train.label_smoothing",
            self.label_smoothing,
            "in [0, 1)",
        )
        require(self.ema is None or 0 < self.ema < 1, "train.ema", self.ema, "null or in (0, 1)")

    @property
    def eval_batch(self) -> int:
        """Samples in a batch of an evaluation."""
        return self.eval_batch_size or self.batch_size

    def check_shared(self, devices: int) -> None:
        """Refuse a batch that so many devices cannot share evenly.

        Raises:
            UserError: its parts would not be of one size.
        """
        parts, size = devices * self.accumulate, self.batch_size
        around = {size // parts * parts, -(-size // parts) * parts} - {0}
        what = f"{devices} devices" + (f" × {self.accumulate} parts" if self.accumulate > 1 else "")
        require(
            size % parts == 0,
            "train.batch_size",
            size,
            f"a multiple of {parts}: it is shared by {what}",
            f"Set train.batch_size={' or '.join(map(str, sorted(around)))}.",
        )
