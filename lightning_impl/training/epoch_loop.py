"""Lightning's loop over the batches of an epoch, with a short way through a step."""

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loops.fetchers import _DataFetcher
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.strategies import SingleDeviceStrategy

from lightning_impl.training.step import TrainingModule

# Hooks of a callback that a short step leaves out.
LEFT_OUT = (
    "on_train_batch_start", "on_train_batch_end", "on_before_zero_grad", "on_before_backward",
    "on_after_backward", "on_before_optimizer_step",
)  # fmt: skip
OURS = "lightning_impl."


class EpochLoop(_TrainingEpochLoop):
    """Lightning's loop, which calls its hooks in a step only if one of them does something.

    Lightning calls thirty hooks in a step, each within a profiler's context: half a millisecond, as long as
    the smallest steps themselves. A short step does the same in the same order, and Lightning does all
    else: evaluations, checkpoints, epochs, progress. Several devices, micro-batches, a user's own optimizer
    and callbacks with a hook of `LEFT_OUT` take Lightning's own step. Only here: the Flax loop is our own.
    """

    def __init__(self, trainer: Trainer, module: TrainingModule) -> None:
        limits = trainer.fit_loop.epoch_loop
        super().__init__(trainer, min_steps=limits.min_steps, max_steps=limits.max_steps)
        self.module = module

    def on_run_start(self, data_fetcher: _DataFetcher) -> None:
        """Begin an epoch; the callbacks are known only now, as a model may bring its own."""
        super().on_run_start(data_fetcher)
        trainer, module = self.trainer, self.module
        callbacks = trainer.callbacks  # pyrefly: ignore[missing-attribute] Lightning sets it elsewhere
        self.ends = [one for one in callbacks if _overrides(one, "on_train_batch_end")]
        foreign = [one for one in callbacks if not type(one).__module__.startswith(OURS)]
        self.is_short = (
            type(module) is TrainingModule
            and module.takes_short_steps
            and isinstance(trainer.strategy, SingleDeviceStrategy)
            and trainer.accumulate_grad_batches == 1
            and not any(_overrides(one, hook) for one in foreign for hook in LEFT_OUT)
        )

    def advance(self, data_fetcher: _DataFetcher) -> None:
        """Take one step.

        Raises:
            StopIteration: at the end of the epoch.
        """
        if self.restarting or not self.is_short:
            super().advance(data_fetcher)
            return
        self.val_loop.restarting = False
        batch, index, _ = next(data_fetcher)
        progress = self.batch_progress
        updates = self.automatic_optimization.optim_progress.optimizer
        progress.is_last_batch = data_fetcher.done
        progress.increment_ready()
        progress.increment_started()
        updates.step.increment_ready()
        self.module.take_step(batch, index)
        updates.zero_grad.increment_by(1)
        updates.step.increment_completed()
        progress.increment_processed()
        for callback in self.ends:
            callback.on_train_batch_end(self.trainer, self.module, None, batch, index)
        progress.increment_completed()


def _overrides(callback: Callback, hook: str) -> bool:
    return getattr(type(callback), hook) is not getattr(Callback, hook)
