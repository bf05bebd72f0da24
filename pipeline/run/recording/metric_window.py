"""Values of training steps, kept on the device until the next line of metrics."""

from collections.abc import Sequence

import numpy as np

from pipeline.data.dataset import Data
from pipeline.errors import Diverged
from pipeline.run.backends import Device


class MetricWindow:
    """The steps since the last line of training metrics.

    Nothing is read from the device until a line is due, so the loop never waits for it.
    """

    def __init__(self, data: Data, batch_size: int) -> None:
        self._data, self._batch_size = data, batch_size
        self._names = data.sums
        self.values = np.empty((0, len(self._names) + 1))  # read so far, `[steps, values]`
        self.peak_memory_mb = 0.0  # of one device
        # Samples per second, without the first line, which contains warm-up; None until the second.
        self.throughput: float | None = None
        self._device: Device | None = None
        self._waiting: list[object] = []  # values on the device
        self._first = 0  # last step before the window
        self._lines = 0
        self._timed_steps, self._timed_seconds = 0, 0.0

    def begin(self, step: int, device: Device) -> None:
        """Start after `step`, and read values from `device`."""
        self._device, self._first, self._lines, self._waiting = device, step, 0, []

    def restore(self, values: Sequence[Sequence[float]]) -> None:
        """Continue with the values of a checkpoint."""
        self.values = np.array(values, np.float64).reshape(-1, len(self._names) + 1)

    def add(self, values: object) -> None:
        """Keep the values of one or more updates: on the device, `[values]` or `[steps, values]`."""
        self._waiting.append(values)

    def read(self, step: int) -> None:
        """Read the values that are still on the device, up to `step`.

        Raises:
            Diverged: a loss is not finite.
        """
        if self._waiting and self._device:
            self.values = np.concatenate([self.values, self._device.read(self._waiting)])
            self._waiting = []
        bad = np.flatnonzero(~np.isfinite(self.values[:, 0]))
        if bad.size:
            first = step - len(self.values) + int(bad[0]) + 1
            raise Diverged(f"train/loss is {self.values[bad[0], 0]} at step {first}")

    def close(self, step: int, seconds: float, learning_rate: float) -> dict[str, float]:
        """Return the metrics of the steps up to `step`, and start the next window.

        `seconds` is the training time since the last line, `learning_rate` the rate of the last update.
        """
        steps, count = step - self._first, len(self._names)
        sums = dict(zip(self._names, self.values[:, :count].sum(axis=0).tolist(), strict=True))
        shapes = self._data.train.shapes(len(self.values) * self._batch_size)
        metrics = self._data.task.metrics(sums, shapes)
        if self._device:
            self.peak_memory_mb = max(self.peak_memory_mb, self._device.peak_memory_mb())
        if self._lines:
            self._timed_steps += steps
            self._timed_seconds += seconds
            self.throughput = self._timed_steps * self._batch_size / self._timed_seconds
        gradient_norm = float(self.values[-1, -1])
        self.values, self._first = self.values[:0], step
        self._lines += 1
        return {f"train/{key}": value for key, value in metrics.items()} | {
            "optim/lr": learning_rate,
            "optim/grad_norm": gradient_norm,
            "perf/samples_per_second": steps * self._batch_size / seconds,
            "perf/step_ms": 1000 * seconds / steps,
            "perf/peak_memory_mb": self.peak_memory_mb,
        }
