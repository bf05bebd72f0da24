"""Time by layer: a recorder that traces a few steps, and the table of all backends side by side."""

from collections.abc import Callable, Sequence

from pipeline.bench.results import Bench, Measured
from pipeline.config.experiment import Config
from pipeline.data.dataset import Data
from pipeline.formatting import format_number
from pipeline.run.backends import LAYERS_REST, LAYERS_ROOT, LAYERS_UNNAMED, Device
from pipeline.run.recording.recorder import Recorder

SHOWN = {
    LAYERS_ROOT: "(model itself)",
    LAYERS_REST: "(batch, loss, update)",
    LAYERS_UNNAMED: "(not named by the compiler)",
}
WARMUP, STEPS = 3, 10  # before and in a trace


class Enough(Exception):
    """The steps that were asked for are done."""


class TracedSteps(Recorder):
    """Recorder that calls `start` after `WARMUP` steps, and `stop` after `STEPS` more, which end the loop."""

    def __init__(
        self, config: Config, data: Data, start: Callable[[], None], stop: Callable[[], None]
    ) -> None:
        super().__init__(config, data)
        self.start_trace, self.stop_trace = start, stop
        self.device: Device | None = None

    def begin(self, step: int, device: Device) -> None:
        """Start training."""
        self.device = device
        super().begin(step, device)

    def learning_rate(self, step: int) -> float:
        """Return zero: the weights stay as they are."""
        del step
        return 0.0

    def record_step(self, step: int, values: object) -> None:
        """Record a step; start or stop the trace if due.

        Raises:
            Enough: the trace is stopped.
        """
        super().record_step(step, values)
        if step in (WARMUP, WARMUP + STEPS):
            assert self.device is not None
            self.device.read([values])  # waits for the device
            if step == WARMUP:
                self.start_trace()
            else:
                self.stop_trace()
                raise Enough


def layers_head(bench: Bench) -> list[str]:
    """Return the titles of the table of layers."""
    names = [name for name in bench.backends if any(m.layers for m in of_backend(bench, name))]
    kinds = ("forward ms", "backward ms", "%")
    return ["precision, batch", "layer", *(f"{name}: {kind}" for name in names for kind in kinds)]


def layers_rows(bench: Bench) -> list[list[str]]:
    """Return the cells of the table: a row for each layer, with its part of the step on each backend."""
    names = [name for name in bench.backends if any(m.layers for m in of_backend(bench, name))]
    rows = []
    for precision in bench.precisions:
        for batch in bench.batches(precision):
            at = bench.at(precision, batch)
            chosen = [at.get(name) for name in names]
            for layer in layer_names([one for one in chosen if one]):
                cells = [cell for one in chosen for cell in cells_of(one, layer)]
                rows.append([f"{precision}, {batch}", shown(layer), *cells])
    return rows


def of_backend(bench: Bench, name: str) -> list[Measured]:
    """Return the measurements of a backend."""
    return [one for one in bench.measured if one.backend == name]


def layer_names(measured: Sequence[Measured]) -> list[str]:
    """Return the names of all layers in the order of the first backend that has them, the rest last."""
    names = dict.fromkeys(name for one in measured for name in one.layers)
    last = tuple(SHOWN)
    return [name for name in names if name not in last] + [name for name in last if name in names]


def cells_of(one: Measured | None, layer: str) -> list[str]:
    """Return the milliseconds of a layer and its part of the step, for one backend."""
    found = one.layers.get(layer) if one else None
    if one is None or found is None:
        return ["–"] * 3
    total = sum(map(sum, one.layers.values()))
    times = [format_number(float(f"{1000 * seconds:.3g}")) for seconds in found]
    return [*times, f"{100 * sum(found) / total:.0f}"]


def shown(layer: str) -> str:
    """Return the name of a layer for the reader."""
    return SHOWN.get(layer, layer)
