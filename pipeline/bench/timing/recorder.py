"""Recorders of a benchmark: they run a backend's own training loop, and end it after some steps."""

from collections.abc import Callable

from pipeline.config.experiment import Config
from pipeline.data.dataset import Data
from pipeline.run.backends import Device
from pipeline.run.recording.recorder import Recorder

WARMUP, STEPS = 3, 10  # before and in a trace


class Enough(Exception):
    """The steps that were asked for are done."""


class BenchRecorder(Recorder):
    """Recorder that leaves the weights as they are at step 0, by a learning rate of zero.

    A model that has learned its data computes with denormal numbers, at which a CPU is slow, and one that
    diverges ends the run.
    """

    device: Device

    def begin(self, step: int, device: Device) -> None:
        """Start training."""
        self.device = device
        super().begin(step, device)

    def learning_rate(self, step: int) -> float:
        """Return zero."""
        del step
        return 0.0


class TracedSteps(BenchRecorder):
    """Recorder that calls `start` after `WARMUP` steps, and `stop` after `STEPS` more, which end the loop."""

    def __init__(
        self, config: Config, data: Data, start: Callable[[], None], stop: Callable[[], None]
    ) -> None:
        super().__init__(config, data)
        self.start_trace, self.stop_trace = start, stop

    def record_step(self, step: int, values: object) -> None:
        """Record a step; start or stop the trace if due.

        Raises:
            Enough: the trace is stopped.
        """
        super().record_step(step, values)
        if step in (WARMUP, WARMUP + STEPS):
            self.device.read([values])  # waits for the device
            if step == WARMUP:
                self.start_trace()
            else:
                self.stop_trace()
                raise Enough
