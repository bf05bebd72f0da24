"""Results of a benchmark: what was measured of each backend at each batch size and precision."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pipeline.bench.statistics import Interval, median_interval, ratio

SCHEMA = 1  # number of the form of bench.json
TRAIN, INFER, LAYERS = "train", "infer", "layers"  # what is timed
OUT_OF_MEMORY = "out of memory"  # in the reasons of failures


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Measurements of one backend at one batch size and precision.

    `train` and `infer` are the seconds of a step and of an inference, one value for each round of turns;
    `beside` are the backends it took turns with, itself included. Seconds and memory are None where it has
    failed, for which `error` gives the reason.
    """

    backend: str  # option of the config group
    precision: str
    batch: int
    train: Sequence[float] = ()
    infer: Sequence[float] = ()
    beside: Sequence[str] = ()
    first_seconds: float | None = None  # from the start of the process to the first loss
    compile_seconds: float | None = None  # of them, without a cache of compiled programs
    memory_mb: float | None = None  # peak of training
    parameters: int | None = None
    layers: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # see `LayerTimes`
    device: str = ""
    conditions: Mapping[str, str] = field(default_factory=dict)  # see `compare.conditions_of`
    error: str = ""

    def seconds(self, phase: str) -> Sequence[float]:
        """Return the seconds of a step or an inference, by round."""
        return self.train if phase == TRAIN else self.infer

    def interval(self, phase: str) -> Interval | None:
        """Return the median seconds of a step or an inference; None if there are none."""
        return median_interval(values) if (values := self.seconds(phase)) else None

    @property
    def throughput(self) -> Interval | None:
        """Training samples per second; None if it has failed."""
        if not self.train:
            return None
        return median_interval([self.batch / seconds for seconds in self.train])


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A benchmark: its experiment and all measurements, in the order in which they were made.

    `batch` is the batch size of the experiment itself. `notes` say what was left out, and why.
    """

    title: str
    batch: int
    backends: Sequence[str]
    precisions: Sequence[str]
    measured: Sequence[Measured] = ()
    notes: Sequence[str] = ()
    config: Mapping[str, object] = field(default_factory=dict)
    hardware: Mapping[str, object] = field(default_factory=dict)
    interrupted: bool = False  # by Ctrl-C or SIGTERM

    def at(self, precision: str, batch: int) -> dict[str, Measured]:
        """Return what was measured at a batch size, by backend, without what has failed."""
        found = {
            one.backend: one
            for one in self.measured
            if (one.precision, one.batch) == (precision, batch) and one.train
        }
        return {name: found[name] for name in self.backends if name in found}

    def series(self, precision: str, backend: str) -> list[Measured]:
        """Return the measurements of a backend by batch size, without what has failed."""
        chosen = (m for m in self.measured if (m.precision, m.backend) == (precision, backend))
        return sorted((one for one in chosen if one.train), key=lambda one: one.batch)

    def batches(self, precision: str) -> list[int]:
        """Return the batch sizes that were measured, in ascending order."""
        return sorted({m.batch for m in self.measured if m.precision == precision and m.train})

    def unmeasured(self) -> dict[str, str]:
        """Return the backends that have failed at every batch size, each with the first reason.

        Those that ran out of memory are not among them.
        """
        found = {}
        for name in self.backends:
            own = [one for one in self.measured if one.backend == name]
            errors = [one.error for one in own if OUT_OF_MEMORY not in one.error]
            if errors and not any(one.train for one in own):
                found[name] = errors[0]
        return found

    def to_json(self) -> dict[str, Any]:
        """Return plain containers, with medians and intervals beside what was measured."""
        return {"schema": SCHEMA} | asdict(self) | {"measured": [*map(summed_up, self.measured)]}


def summed_up(one: Measured) -> dict[str, Any]:
    """Return a measurement with its medians and intervals, None where they are not known."""

    def ends(interval: Interval | None) -> list[float | None] | None:
        if interval is None:
            return None
        is_known = interval.low == interval.low
        return [interval.median, *([interval.low, interval.high] if is_known else [None, None])]

    return asdict(one) | {
        "samples_per_second": ends(one.throughput),
        "step_seconds": ends(one.interval(TRAIN)),
        "inference_seconds": ends(one.interval(INFER)),
    }


def times_as_fast(first: Measured, second: Measured, phase: str) -> Interval | None:
    """Return how many times as fast the first is; None unless they took turns.

    Where one has more rounds, the other was interrupted in the last, or has failed in it.
    """
    both = list(zip(first.seconds(phase), second.seconds(phase), strict=False))
    if not both or second.backend not in first.beside:
        return None
    ours, theirs = zip(*both, strict=True)
    return ratio(ours, theirs)
