"""Steps at which a run logs, evaluates and ends: a pure function of the configuration."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd

from pipeline.config.fields import require
from pipeline.config.train import EVAL_EVERY, TrainConfig


@dataclass(frozen=True)
class Intervals:
    """Steps at which a run logs and evaluates; a step is one optimizer update, counted from 1."""

    total: int  # steps of the whole run
    steps_per_epoch: int  # full batches in the training set
    log_every: int  # steps between two logs of training metrics
    eval_every: int

    def logs(self, step: int) -> bool:
        """Return whether training metrics are logged after this step."""
        return step % self.log_every == 0 or step == self.total

    def evaluates(self, step: int) -> bool:
        """Return whether the run evaluates and saves a checkpoint after this step."""
        return step % self.eval_every == 0 or step == self.total

    def epoch(self, step: int) -> float:
        """Return the number of passes over the training set after this step."""
        return step / self.steps_per_epoch

    def call_length(self, most: int) -> int:
        """Return the longest call, of at most `most` steps, that divides the steps between all lines."""
        between = gcd(self.log_every, self.eval_every)
        return max(steps for steps in range(1, most + 1) if between % steps == 0)

    def calls(self, start: int, limit: int, stop: int | None = None) -> Iterator[tuple[int, int]]:
        """Split the steps after `start` into calls (first, count) that end at each log or evaluation.

        A count is `limit` or 1, so a backend compiles only two programs.
        """
        step = start
        while step < self.total:
            due = min(
                self.total,
                step - step % self.log_every + self.log_every,
                step - step % self.eval_every + self.eval_every,
                stop if stop is not None and stop > step else self.total,
            )
            count = limit if step + limit <= due else 1
            yield step, count
            step += count


def make_intervals(config: TrainConfig, training_samples: int) -> Intervals:
    """Make the intervals of a run; the last, partial batch of an epoch is dropped.

    Raises:
        UserError: a batch is larger than the training set.
    """
    steps_per_epoch = training_samples // config.batch_size
    require(
        steps_per_epoch > 0,
        "train.batch_size",
        config.batch_size,
        f"at most {training_samples}, the size of the training set",
        f"Set train.batch_size={training_samples} or less.",
    )
    return Intervals(
        total=config.steps or config.epochs * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
        log_every=config.log_every,
        eval_every=eval_steps(config.eval_every, steps_per_epoch),
    )


def eval_steps(every: int | str, steps_per_epoch: int) -> int:
    """Convert `train.eval_every` to steps: a number counts epochs, `100steps` counts steps."""
    match = EVAL_EVERY.fullmatch(str(every))
    assert match, "the config was checked"
    return int(match[1]) * (1 if (match[2] or "").startswith("step") else steps_per_epoch)
