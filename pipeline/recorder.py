"""What happens around a step, the same for both backends: values kept, read, logged and judged.

A backend hands over the values of each step as they lie on its device. Nothing is read back from the
device until a line is due, so the loop never waits for it.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.backends import Device
from pipeline.config import Config
from pipeline.datasets import Data
from pipeline.errors import Diverged
from pipeline.interruption import Interruption
from pipeline.metrics import MONITOR, SUMS, better, summarise
from pipeline.observer import Observer
from pipeline.plateau import Steady
from pipeline.progress import Progress
from pipeline.schedules import Schedule
from pipeline.timetable import Timetable
from pipeline.tracker import Tracker


@dataclass
class Recorder:
    """The memory of a run in training.

    Args:
        config: of the experiment.
        data: that it trains on.
        timetable: what is due when.
        schedule: factor on the learning rate by step.
        plateau: factor on it by what evaluations have shown.
        tracker: where metrics go.
        progress: what the person sees.
        interruption: whether somebody asked to stop.
        observer: looks into the steps.
        started: when the run (or the part of it after an interruption) began, by `time.perf_counter`.
    """

    config: Config
    data: Data
    timetable: Timetable
    schedule: Schedule
    plateau: Steady
    tracker: Tracker
    progress: Progress
    interruption: Interruption
    observer: Observer = field(default_factory=Observer)
    started: float = field(default_factory=time.perf_counter)

    best: dict[str, Any] | None = None
    stale: int = 0  # evaluations since the best one
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(
        ("setup", "compile", "train", "eval"), 0.0))  # fmt: skip
    timed_steps: int = 0  # steps that `timed_seconds` are of: all but the first line's
    timed_seconds: float = 0.0
    peak_memory_mb: float = 0.0
    step: int = 0  # updates done
    spent: float = 0.0  # seconds of the parts of the run before this one
    _away: float = 0.0  # seconds since the last line that were not training
    facts: dict[str, Any] = field(default_factory=dict)  # parameters, init_digest, data_digest

    def begin(self, step: int, device: Device) -> None:
        """Start or go on after `step`.

        Args:
            step: updates done.
            device: that the values of steps are read from.
        """
        self.step, self._device = step, device
        self._waiting: list[Any] = []  # values on the device
        self._window = getattr(self, "_window", np.empty((0, len(SUMS[self.data.task]) + 1)))
        self._warm = False
        self._window_start, self._window_first = time.perf_counter(), step
        self.progress.start(step)

    @property
    def elapsed(self) -> float:
        """Seconds of the run so far, set-up and compilation included; while it lay stopped none pass."""
        return self.spent + time.perf_counter() - self.started

    def learning_rate(self, step: int) -> float:
        """Of the update that comes after `step` updates."""
        return self.config.optimizer.lr * self.schedule(step) * self.plateau.factor

    def stepped(self, step: int, values: object) -> None:
        """Keep the values of the update (or updates) that ended at `step`; log if a line is due.

        Args:
            step: updates done.
            values: on the device, `[values]` or `[steps, values]`: the sums of the batch in the order
                of `metrics.SUMS`, then the gradients' norm.

        Raises:
            Diverged: a loss in this window is not a finite number.
        """
        self.step = step
        self._waiting.append(values)
        if self.timetable.logs(step):
            self._log(step)

    def _log(self, step: int) -> None:
        self._settle(step)
        window, batch = self._window, self.config.train.batch_size
        elapsed = time.perf_counter() - self._window_start - self._away
        steps = step - self._window_first
        names = SUMS[self.data.task]
        sums = dict(zip(names, window[:, : len(names)].sum(axis=0).tolist(), strict=True))
        metrics = summarise(self.data, sums, len(window) * batch)
        self.peak_memory_mb = max(self.peak_memory_mb, self._device.peak_memory_mb())
        values = {f"train/{key}": value for key, value in metrics.items()} | {
            "optim/lr": self.learning_rate(step - 1),
            "optim/grad_norm": float(window[-1, -1]),
            "perf/samples_per_second": steps * batch / elapsed,
            "perf/step_ms": 1000 * elapsed / steps,
            "perf/peak_memory_mb": self.peak_memory_mb,
            "perf/seconds": self.elapsed,
            "epoch": self.timetable.epoch(step),
        }
        self.tracker.log(step, values)
        self.progress.update(step, values)
        self.seconds["train"] += elapsed
        if self._warm:
            self.timed_steps += steps
            self.timed_seconds += elapsed
        self._warm = True
        self._window = window[:0]
        self._away, self._window_start, self._window_first = 0.0, time.perf_counter(), step

    def _settle(self, step: int) -> None:
        """Read what waits on the device into the window."""
        if self._waiting:
            self._window = np.concatenate([self._window, self._device.read(self._waiting)])
            self._waiting = []
        bad = np.flatnonzero(~np.isfinite(self._window[:, 0]))
        if bad.size:
            first = step - len(self._window) + int(bad[0]) + 1
            raise Diverged(f"train/loss is {self._window[bad[0], 0]} at step {first}")

    def pause(self) -> None:
        """Stop the clock of training: something else begins."""
        self._paused = time.perf_counter()

    def resume(self, name: str) -> None:
        """Go on with training; the time since `pause` is kept under `name` in `seconds`."""
        passed = time.perf_counter() - self._paused
        self._away += passed
        self.seconds[name] += passed

    def evaluated(self, step: int, sums: Mapping[str, float]) -> dict[str, float]:
        """Log the sums over the whole validation set; note a new best, or that there was none.

        Args:
            step: updates done.
            sums: over all samples, by the names of `metrics.SUMS`.
        """
        self.observer.evaluated(step, sums)
        metrics = summarise(self.data, sums, len(self.data.val))
        values = {f"val/{key}": value for key, value in metrics.items()}
        around = {"perf/seconds": self.elapsed, "epoch": self.timetable.epoch(step)}
        self.tracker.log(step, values | around)
        self.progress.update(step, values)
        key, mode = MONITOR[self.data.task]
        self.plateau.judge(values[key])
        if better(values[key], self.best["value"] if self.best else None, mode):
            self.best, self.stale = {"metric": key, "value": values[key], "step": step}, 0
        else:
            self.stale += 1
        return values

    @property
    def stopped_early(self) -> bool:
        """Whether `train.early_stopping` evaluations have passed without a new best."""
        patience = self.config.train.early_stopping
        return patience is not None and self.stale >= patience

    def interrupted(self, step: int) -> int | None:
        """The exit code to end with after `step`, if somebody asked to stop; asked once a step.

        All processes of the run end at the same step, whichever of them was told to stop.
        """
        exit_code = self._device.highest(self.interruption.exit_code or 0)
        return exit_code or (130 if self.config.train.stop_after == step else None)

    def state(self, step: int) -> dict[str, Any]:
        """What a checkpoint holds of this, as plain containers.

        Raises:
            Diverged: the state is not worth keeping.
        """
        self._settle(step)
        return {
            "facts": self.facts,
            "window": self._window.tolist(),
            "best": self.best,
            "stale": self.stale,
            "plateau": self.plateau.state(),
            "seconds": dict(self.seconds),
            "elapsed": self.elapsed,
        }

    def restore(self, step: int, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned at `step`; what was logged after it is dropped."""
        self.step = step
        self.tracker.rewind(step)
        width = len(SUMS[self.data.task]) + 1
        self._window = np.array(state["window"], dtype=np.float64).reshape(-1, width)
        self.best, self.stale = state["best"], state["stale"]
        self.plateau.restore(state.get("plateau", {}))
        self.facts, self.seconds = dict(state["facts"]), dict(state["seconds"])
        # Of a checkpoint that does not tell, what it knows of where its time went.
        self.spent = state.get("elapsed", sum(self.seconds.values()))

    def describe(self, parameters: int, init_digest: str, data_digest: str) -> None:
        """Note what the run starts from: the number of weights, and digests of weights and batches."""
        self.facts = {
            "parameters": parameters,
            "init_digest": init_digest,
            "data_digest": data_digest,
        }
        self.progress.message(f"{parameters:,} parameters")

    def tested(self, step: int, sums: Mapping[str, float]) -> dict[str, float]:
        """Log the sums over the whole test set, of the weights at `step`, as the run's last line."""
        metrics = summarise(self.data, sums, len(self.data.test))
        values = {f"test/{key}": value for key, value in metrics.items()}
        self.tracker.log(max(step, self.step), values | {"perf/seconds": self.elapsed})
        return values

    def outcome(self) -> dict[str, Any]:
        """The part of `result.json` that comes from training."""
        return self.facts | {
            "steps": self.step,
            "epochs": self.timetable.epoch(self.step),
            "metrics": dict(self.tracker.last),
            "seconds": dict(self.seconds),
            "throughput": self.throughput,
            "peak_memory_mb": self.peak_memory_mb,
        }

    @property
    def throughput(self) -> float | None:
        """Training samples per second without the first line's steps and compilation."""
        if not self.timed_steps:
            return None
        return self.timed_steps * self.config.train.batch_size / self.timed_seconds
