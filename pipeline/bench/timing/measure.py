"""Measurement of all backends over precisions and batch sizes, up to what memory and time allow."""

import os
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from pipeline.bench.machine import free_memory_mb, lacks
from pipeline.bench.plan import Plan
from pipeline.bench.results import INFER, OUT_OF_MEMORY, TRAIN, Bench, Measured
from pipeline.bench.statistics import FEWEST, growth
from pipeline.bench.timing.answers import line_of, measured_of
from pipeline.bench.timing.chosen_backends import choose_backends
from pipeline.bench.timing.side import keep_no_programs
from pipeline.bench.timing.turns import Side, take_turns, turn_seconds
from pipeline.config.experiment import Config, plain
from pipeline.devices.device_count import usable_gpus
from pipeline.devices.hardware import hardware
from pipeline.errors import RunFailed
from pipeline.run.backends import LayerTimes

MOST_OF_MEMORY = 0.9  # part of the free memory that a batch may take
MOST_FAILURES = 2  # batch sizes in a row at which a backend may fail
BUSY = 0.5  # load of a core from which on other programs disturb
LATE = 2  # times the time for a round, from which on larger batches take too long
Report = Callable[[str], None]


def measure(plan: Plan, report: Report) -> Bench:
    """Measure an experiment; after Ctrl-C or SIGTERM return what has been measured so far.

    `report` is called with a line for each measurement.

    Raises:
        UserError: an override or the experiment itself is refused.
        RunFailed: nothing could be measured.
        KeyboardInterrupt: it came before anything was measured.
    """
    made = Measurement(plan, report)
    load, cores = os.getloadavg()[0], len(os.sched_getaffinity(0))
    if load > BUSY * cores:
        made.note(f"other programs kept this machine busy: load {load:.1f} on {cores} cores")
    with empty_cache():
        try:
            for precision in made.precisions:
                made.measure_sizes(precision)
        except KeyboardInterrupt:
            made.interrupted = True
            made.note("interrupted: what was not measured by then is missing")
    bench = made.bench
    if not any(one.train for one in bench.measured):
        if made.interrupted:
            raise KeyboardInterrupt
        first = {one.backend: one.error for one in reversed(bench.measured)}
        known = [name for name in bench.backends if name in first]
        reasons = (f"{name}: {first[name].rstrip('.')}" for name in known)
        raise RunFailed("; ".join(["nothing was measured", *reasons]))
    return bench


@contextmanager
def empty_cache() -> Generator[None]:
    """Keep compiled programs in a folder of their own that is deleted at the end."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        keep_no_programs(Path(folder))
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


class Measurement:
    """The measurements of a plan so far."""

    def __init__(self, plan: Plan, report: Report) -> None:
        self.plan, self.report = plan, report
        self.measured: list[Measured] = []
        self.notes: list[str] = []
        self.interrupted = False
        self.backends = choose_backends(plan, self.note)
        self.config = plan.config(self.backends[0])
        train = self.config.train
        self.layers_at = plan.layers_at(train.batch_size, train.accumulate)
        self.precisions = plan.chosen_precisions(self.config)
        for precision in self.precisions:
            if lacks(precision, bool(usable_gpus(self.config))):
                instead = "computes as in fp32" if precision == "tf32" else "emulates it"
                self.note(f"{precision}: this device has no instructions for it, and {instead}")

    @property
    def bench(self) -> Bench:
        """All that has been measured."""
        config = self.config
        return Bench(
            title=f"{config.model.name} on {config.dataset.name}, {config.optimizer.name}",
            batch=config.train.batch_size,
            backends=self.backends,
            precisions=self.precisions,
            measured=self.measured,
            notes=self.notes,
            config=plain(config),
            hardware=hardware(),
            interrupted=self.interrupted,
        )

    def note(self, text: str) -> None:
        """Keep a remark on what is missing or not alike, once, and report it."""
        if text not in self.notes:
            self.notes.append(text)
            self.report(f"[yellow]{text}[/]")

    def measure_sizes(self, precision: str) -> None:
        """Measure the batch sizes of a precision in ascending order, until memory or time end."""
        configs = {name: self.plan.config(name, precision) for name in self.backends}
        failures = dict.fromkeys(configs, 0)
        for batch in self.plan.sizes(self.config.train.accumulate):
            active = [name for name, count in failures.items() if count < MOST_FAILURES]
            if not active or not self.is_compared(precision, batch, active):
                return
            if not self.fits(precision, batch, active):
                return
            at = {name: with_batch(configs[name], batch) for name in active}
            found, round_seconds = self.measure_batch(precision, batch, at)
            for one in found:
                failures[one.backend] = 0 if one.train else failures[one.backend] + 1
                if OUT_OF_MEMORY in one.error:
                    failures[one.backend] = MOST_FAILURES
            if self.plan.batch_sizes is None and round_seconds > LATE * self.plan.seconds / FEWEST:
                last = f"{precision}: batches above {batch} are left out: {FEWEST} rounds of turns take"
                self.note(f"{last} longer than seconds={self.plan.seconds:g}")
                return

    def fits(self, precision: str, batch: int, active: Sequence[str]) -> bool:
        """Return whether the memory is expected to suffice for a batch; note it if not.

        A GPU tells by itself, and a batch size that was asked for is tried.
        """
        if self.plan.batch_sizes is not None or usable_gpus(self.config):
            return True
        needed = 0.0
        for name in active:
            known = [(one.batch, one.memory_mb) for one in self.bench.series(precision, name)]
            pairs = [(size, memory) for size, memory in known if memory]
            if len(pairs) > 1:
                sizes, memories = zip(*pairs, strict=True)
                needed += growth(sizes, memories).at(batch)
        free = free_memory_mb()
        if needed <= MOST_OF_MEMORY * free:
            return True
        amounts = f"about {needed / 1024:,.1f} GB, and {free / 1024:,.1f} GB are free"
        self.note(f"{precision}: batches from {batch} on are left out: they need {amounts}")
        return False

    def is_compared(self, precision: str, batch: int, active: Sequence[str]) -> bool:
        """Return whether a batch size compares backends; note it if all others have failed at all sizes.

        A single backend is measured if no other was to be, and a batch size that was asked for.
        """
        lost = [name for name in self.bench.unmeasured() if name not in active]
        left = [name for name in self.backends if name not in lost]
        if self.plan.batch_sizes is not None or not lost or len(left) > 1:
            return True
        reason = f"nothing is left to compare {left[0]} with"
        self.note(f"{precision}: batches from {batch} on are left out: {reason}")
        return False

    def measure_batch(
        self, precision: str, batch: int, configs: dict[str, Config]
    ) -> tuple[list[Measured], float]:
        """Measure a batch size; keep and return the measurements; return the seconds of a round of training.

        Where memory does not suffice for all at once, those that ran out of it are measured alone.
        """
        found, seconds = self.take_turns(precision, batch, configs)
        short = [one for one in found if OUT_OF_MEMORY in one.error]
        for one in short if len(configs) > 1 else ():
            self.measured.remove(one)
            alone, longer = self.take_turns(precision, batch, {one.backend: configs[one.backend]})
            found = [other for other in found if other is not one] + alone
            seconds = max(seconds, longer)
        return found, seconds

    def take_turns(
        self, precision: str, batch: int, configs: dict[str, Config]
    ) -> tuple[list[Measured], float]:
        """Start the backends one after the other, and have them take turns at training and inference.

        What has been measured when Ctrl-C ends it is kept.
        """
        sides: list[Side] = []
        layers: dict[str, LayerTimes] = {}
        self.report(f"[dim]{precision} batch {batch:<6} starting {', '.join(configs)}[/]")
        with ExitStack() as stack:
            turn = turn_seconds(len(configs), self.plan.seconds)
            try:
                for name, config in configs.items():
                    sides.append(stack.enter_context(Side(name, config, turn)))
                    sides[-1].begin(TRAIN)
                    if (failed := sides[-1].failed) and failed.refused:
                        raise failed.refused
                seconds = take_turns(sides, TRAIN, self.plan.seconds)
                for side in sides:
                    side.begin(INFER)
                take_turns(sides, INFER, self.plan.seconds / 2)
                layers = self.time_layers(sides) if batch == self.layers_at else {}
            except KeyboardInterrupt:
                self.keep(sides, precision, batch, layers)
                raise
        return self.keep(sides, precision, batch, layers), seconds

    def keep(
        self, sides: Sequence[Side], precision: str, batch: int, layers: Mapping[str, LayerTimes]
    ) -> list[Measured]:
        """Keep, report and return what the sides have answered, but of those that have not begun turns."""
        begun = [side for side in sides if side.seconds[TRAIN] or side.failed]
        beside = [side.name for side in begun if side.seconds[TRAIN]]
        found = [measured_of(side, precision, batch, beside, layers) for side in begun]
        self.measured += found  # before the lines, during which Ctrl-C may come
        for side, one in zip(begun, found, strict=True):
            self.report(line_of(one))
            if one.error:
                self.notes.append(f"{precision}, batch {batch}: {one.backend}: {one.error}")
            if (ready := side.ready.get(TRAIN)) and ready.fallback:
                self.note(f"{side.name} is on the CPU of a machine with a GPU: {ready.fallback}")
        return found

    def time_layers(self, sides: Sequence[Side]) -> dict[str, LayerTimes]:
        """Return the times of layers of each backend that can tell them; note the others."""
        found = {}
        for side in sides:
            if side.failed is None:
                layers = side.time_layers()
                found[side.name] = layers.times
                if layers.reason:
                    self.note(f"{side.name}: no times of layers: {layers.reason}")
        return found


def with_batch(config: Config, batch: int) -> Config:
    """Return the config with another batch size."""
    return replace(config, train=replace(config.train, batch_size=batch))
