"""When things happen, in steps: a pure function of the configuration, the same on both backends."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.config import EVAL_EVERY, TrainConfig
from pipeline.errors import UserError


@dataclass(frozen=True)
class Timetable:
    """What is due after which optimizer update; steps count from 1.

    Args:
        total: updates of the whole run.
        steps_per_epoch: full batches in the training set.
        log_every: updates between two lines of training metrics.
        eval_every: updates between two evaluations.
    """

    total: int
    steps_per_epoch: int
    log_every: int
    eval_every: int

    def logs(self, step: int) -> bool:
        """Whether training metrics are read and logged after this step."""
        return step % self.log_every == 0 or step == self.total

    def evaluates(self, step: int) -> bool:
        """Whether the validation set is evaluated and a checkpoint kept after this step."""
        return step % self.eval_every == 0 or step == self.total

    def epoch(self, step: int) -> float:
        """Passes over the training set after this step."""
        return step / self.steps_per_epoch

    def calls(self, start: int, limit: int, stop: int | None = None) -> Iterator[tuple[int, int]]:
        """Split the steps after `start` into (first, count), none running past what is due.

        A count is `limit` or 1, so that a backend compiles two programs and no more.
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


def timetable(config: TrainConfig, training_samples: int) -> Timetable:
    """The timetable of a run over `training_samples`; the last, partial batch is dropped.

    Raises:
        UserError: a batch is larger than the training set.
    """
    steps_per_epoch = training_samples // config.batch_size
    if steps_per_epoch == 0:
        raise UserError(
            "train.batch_size",
            config.batch_size,
            f"at most {training_samples}, the size of the training set",
            f"Set train.batch_size={training_samples} or less.",
        )
    return Timetable(
        total=config.steps or config.epochs * steps_per_epoch,
        steps_per_epoch=steps_per_epoch,
        log_every=config.log_every,
        eval_every=eval_steps(config.eval_every, steps_per_epoch),
    )


def eval_steps(every: int | str, steps_per_epoch: int) -> int:
    """`train.eval_every` in steps: a number counts epochs, `100steps` counts steps."""
    match = EVAL_EVERY.fullmatch(str(every))
    return int(match[1]) * (1 if (match[2] or "").startswith("step") else steps_per_epoch)
