"""Recorder of a run: collects the values of steps, logs them at intervals, tracks the best evaluation."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from pipeline.config.experiment import Config
from pipeline.data.dataset import Data
from pipeline.devices.stop_signals import StopSignal
from pipeline.digest import digest
from pipeline.loggers.callbacks import Callbacks
from pipeline.loggers.progress import NoProgress, Progress
from pipeline.loggers.tracker import Tracker
from pipeline.run.backends import Device
from pipeline.run.recording.best_tracker import BestTracker
from pipeline.run.recording.kernels import noted_kernels
from pipeline.run.recording.metric_window import MetricWindow
from pipeline.run.recording.step_observer import Observer
from pipeline.run.recording.stopwatch import Stopwatch
from pipeline.storage.portable_state import Arrays
from pipeline.storage.recorder_state import Best, RecorderState
from pipeline.storage.run_result import RunResult
from pipeline.training.intervals import make_intervals
from pipeline.training.lr_schedules import make_schedule


class Recorder:
    """Records a run in training.

    `open_tracker` opens the loggers at the step of a checkpoint, or at None for a run from scratch. It is
    called once, after all checks, and is the first write to the run's folder. By default nothing is
    logged or displayed, no signal stops the run, and there are no callbacks.

    Attributes:
        intervals: steps to log and to evaluate at.
        schedule: factor on the learning rate by step.
        step: updates done.
        steps_per_call: most updates of one call of the device; 0 before the first.
        runs_at_once: runs that train at once with this one, itself included.
        alone: why it trains by itself, though it was to train with others; empty if it was not.
        facts: `parameters`, `init_digest` and `data_digest` of the run's start.
    """

    def __init__(
        self,
        config: Config,
        data: Data,
        *,
        open_tracker: Callable[[int | None], Tracker] = lambda step: Tracker(),
        progress: Progress | None = None,
        stop_signal: StopSignal | None = None,
        observer: Observer | None = None,
        stopwatch: Stopwatch | None = None,
        callbacks: Callbacks | None = None,
    ) -> None:
        self.config, self.data = config, data
        self.intervals = make_intervals(config.train, len(data.train))
        self.schedule = make_schedule(config.schedule, self.intervals.total)
        self.progress, self.observer = progress or NoProgress(), observer or Observer()
        self.callbacks = callbacks or Callbacks()
        self.stop_signal, self.stopwatch = stop_signal or StopSignal(), stopwatch or Stopwatch()
        self.window = MetricWindow(data, config.train.batch_size)
        self.evaluations = BestTracker(config, data.task)
        self.step = self.steps_per_call = 0
        self.runs_at_once, self.alone = 1, ""
        self.facts: dict[str, int | str] = {}
        self._open_tracker = open_tracker
        self._tracker: Tracker | None = None
        self._device: Device | None = None

    @property
    def has_started(self) -> bool:
        """True once the loggers are open."""
        return self._tracker is not None

    @property
    def tracker(self) -> Tracker:
        """The loggers."""
        return self.start()

    def start(self, step: int | None = None) -> Tracker:
        """Open the loggers, unless they are open; `step` is the step of the checkpoint to resume from."""
        if self._tracker is None:
            self._tracker = self._open_tracker(step)
        return self._tracker

    @property
    def best(self) -> Best | None:
        """The best evaluation so far."""
        return self.evaluations.best

    @property
    def stopped_early(self) -> bool:
        """True if `train.early_stopping` evaluations have passed without a new best."""
        return self.evaluations.stopped_early

    def begin(self, step: int, device: Device) -> None:
        """Start training after `step` updates, and read the values of steps from `device`."""
        self.start()
        self.step, self._device = step, device
        self.window.begin(step, device)
        self.progress.start(step)
        self.stopwatch.end_setup()
        self.stopwatch.start_lap()

    def learning_rate(self, step: int) -> float:
        """Return the learning rate of the update after `step` updates."""
        factor = self.schedule(step) * self.evaluations.plateau.factor
        return self.config.optimizer.lr * factor

    def record_step(self, step: int, values: object) -> None:
        """Keep the values of the update (or updates) that ended at `step`; log if a line is due.

        `values` are on the device, `[values]` or `[steps, values]`: the sums of the batch in the order of
        the names of `Task.sums`, then the gradient norm.

        Raises:
            Diverged: a loss since the last line is not finite.
        """
        self.note_call(1)
        self.step = step
        self.window.add(values)
        if self.intervals.logs(step):
            self.window.read(step)
            seconds, rate = self.stopwatch.end_lap(), self.learning_rate(step - 1)
            self._log(step, self.window.close(step, seconds, rate))
            self.stopwatch.start_lap()

    def note_call(self, steps: int) -> None:
        """Note a call of the device that takes so many steps."""
        self.steps_per_call = max(self.steps_per_call, steps)

    def _log(self, step: int, values: dict[str, float]) -> None:
        about = {"perf/seconds": self.stopwatch.elapsed, "epoch": self.intervals.epoch(step)}
        self.tracker.log(step, values | about)
        self.progress.update(step, values)

    def pause(self) -> None:
        """Stop timing the training: another phase begins."""
        self.stopwatch.pause()

    def resume(self, phase: str) -> None:
        """Continue training; count the time since `pause` as `phase`."""
        self.stopwatch.resume(phase)

    def record_evaluation(
        self, step: int, sums: Mapping[str, float], weights: Callable[[], Arrays]
    ) -> dict[str, float]:
        """Log an evaluation of the validation set, compare it with the best so far, and call the callbacks.

        `sums` are over all samples, by the names of `Task.sums`. `weights` returns the values that were
        evaluated, by canonical name; all ranks call this, as it may gather them.
        """
        self.observer.evaluated(step, sums)
        metrics = self.data.task.metrics(sums, self.data.val.shapes())
        values = {f"val/{key}": value for key, value in metrics.items()}
        self._log(step, values)
        self.evaluations.add(step, values[self.evaluations.metric])
        self._call_callbacks(step, weights)
        return values

    def _call_callbacks(self, step: int, weights: Callable[[], Arrays]) -> None:
        """Call the user's own in the main process; the others take part in gathering sharded weights."""
        if not self.callbacks.neutral or self._device is None:
            return
        if self._device.sharded:
            gathered = weights()
            weights = lambda: dict(gathered)  # noqa: E731
        if self._device.world.is_main:
            self.callbacks.call(step, weights, self.tracker)

    def exit_code_if_stopped(self, step: int) -> int | None:
        """Return the exit code if the run must stop after `step`; call once a step.

        All ranks stop at the same step, whichever of them got the signal.
        """
        exit_code = self.stop_signal.exit_code or 0
        if self._device:
            exit_code = self._device.lagged_max(exit_code)
        return exit_code or (130 if self.config.train.stop_after == step else None)

    def state(self, step: int) -> RecorderState:
        """Return the state that a checkpoint holds.

        Raises:
            Diverged: a loss is not finite.
        """
        self.window.read(step)
        return RecorderState(
            facts=self.facts,
            window=self.window.values.tolist(),
            best=self.best,
            stale=self.evaluations.stale,
            plateau=self.evaluations.plateau.state(),
            seconds=dict(self.stopwatch.seconds),
            elapsed=self.stopwatch.elapsed,
        )

    def restore(self, step: int, state: RecorderState) -> None:
        """Continue from the state of a checkpoint at `step`; later rows of the loggers are dropped."""
        self.step = step
        tracker = self.start(step)
        tracker.rewind(step)
        tracker.check_reaches(step - len(state.window))
        self.window.restore(state.window)
        self.evaluations.restore(state)
        self.facts = dict(state.facts)
        self.stopwatch.restore(state.seconds, state.elapsed)

    def describe(self, weights: Arrays, data_digest: str) -> None:
        """Store the number of weights, and digests of the weights at step 0 and the first batches."""
        parameters = sum(weight.size for weight in weights.values())
        self.facts = {
            "parameters": parameters,
            "init_digest": digest(weights),
            "data_digest": data_digest,
        }
        self.progress.message(f"{parameters:,} parameters")

    def record_test(self, step: int, sums: Mapping[str, float]) -> dict[str, float]:
        """Log the test of the weights at `step` as the last line; `sums` as for `record_evaluation`."""
        metrics = self.data.task.metrics(sums, self.data.test.shapes())
        values = {f"test/{key}": value for key, value in metrics.items()}
        self.tracker.log(max(step, self.step), values | {"perf/seconds": self.stopwatch.elapsed})
        return values

    def complete(self, result: RunResult) -> RunResult:
        """Return a result with the values of the training filled in."""
        facts = RunResult.from_json(self.facts)
        return replace(
            result,
            parameters=facts.parameters,
            init_digest=facts.init_digest,
            data_digest=facts.data_digest,
            steps=self.step,
            epochs=self.intervals.epoch(self.step),
            metrics=dict(self._tracker.last) if self._tracker else {},
            seconds=self.stopwatch.seconds | {"total": self.stopwatch.part},
            attention=(noted_kernels() if self.steps_per_call else "") or None,
            steps_per_call=self.steps_per_call or None,
            vectorized=self.runs_at_once if self.runs_at_once > 1 else None,
            alone=self.alone or result.alone,
            throughput=self.window.throughput,
            peak_memory_mb=self.window.peak_memory_mb,
        )
