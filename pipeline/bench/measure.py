"""Measurement of all backends over precisions and batch sizes, up to what memory and time allow."""

import os
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from pipeline.bench.machine import free_memory_mb
from pipeline.bench.plan import Plan
from pipeline.bench.results import INFER, TRAIN, Bench, Measured
from pipeline.bench.side import keep_no_programs
from pipeline.bench.statistics import FEWEST, growth
from pipeline.bench.turns import Side, take_turns
from pipeline.config.experiment import Config, plain
from pipeline.devices.device_count import usable_gpus
from pipeline.devices.hardware import hardware
from pipeline.errors import RunFailed, UserError
from pipeline.formatting import format_number

MOST_OF_MEMORY = 0.9  # part of the free memory that a batch may take
MOST_FAILURES = 2  # batch sizes in a row at which a backend may fail
Report = Callable[[str], None]


def measure(plan: Plan, report: Report) -> Bench:
    """Measure an experiment; after Ctrl-C return what has been measured so far.

    `report` is called with a line for each measurement.

    Raises:
        UserError: an override or the experiment itself is refused.
        RunFailed: nothing could be measured.
    """
    made = Measurement(plan, report)
    with empty_cache():
        try:
            for precision in made.precisions:
                made.measure_sizes(precision)
        except KeyboardInterrupt:
            made.note("interrupted: what was not measured by then is missing")
    bench = made.bench
    if not any(one.train for one in bench.measured):
        reasons = dict.fromkeys(f"{one.backend}: {one.error}" for one in bench.measured)
        raise RunFailed("; ".join(["nothing was measured", *reasons, *bench.notes]))
    return bench


@contextmanager
def empty_cache() -> Generator[None, None, None]:
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
    """What has been measured of a plan so far."""

    def __init__(self, plan: Plan, report: Report) -> None:
        self.plan, self.report = plan, report
        self.backends = plan.chosen_backends()
        self.config = plan.config(self.backends[0])
        self.precisions = plan.chosen_precisions(self.config)
        self.measured: list[Measured] = []
        self.notes: list[str] = []

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
            if not active or not self.fits(precision, batch, active):
                return
            at = {name: with_batch(configs[name], batch) for name in active}
            found, round_seconds, refused = self.measure_batch(precision, batch, at)
            self.measured += found
            for one in found:
                failures[one.backend] = 0 if one.train else failures[one.backend] + 1
                if "out of memory" in one.error:
                    failures[one.backend] = MOST_FAILURES
            for name, error in refused.items():
                if not self.is_left_out(name, error, precision):
                    return
                failures.pop(name, None)
            if self.plan.batch_sizes is None and round_seconds > self.plan.seconds / FEWEST:
                last = f"{precision}: batches above {batch} are left out: {FEWEST} rounds of turns take"
                self.note(f"{last} longer than seconds={self.plan.seconds:g}")
                return

    def is_left_out(self, name: str, error: UserError, precision: str) -> bool:
        """Note that a backend refuses the experiment, and leave it out; return False if only this batch.

        Raises:
            UserError: the backend was asked for by name, or no other is left.
        """
        if error.key == "train.batch_size" and self.measured:
            self.note(f"{precision}: larger batches are left out: {error}")
            return False
        if self.plan.backends is not None or len(self.backends) == 1:
            raise error
        self.backends.remove(name)
        self.note(f"{name} is left out: {error}")
        return True

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
        amounts = f"about {format_number(needed)} MB, and {format_number(free)} MB are free"
        self.note(f"{precision}: batches from {batch} on are left out: they need {amounts}")
        return False

    def measure_batch(
        self, precision: str, batch: int, configs: dict[str, Config]
    ) -> tuple[list[Measured], float, dict[str, UserError]]:
        """Measure a batch size; return the measurements, the seconds of a round, and who refuses.

        Where memory does not suffice for all at once, those that ran out of it are measured alone.
        """
        found, seconds, refused = self.take_turns(precision, batch, configs)
        short = [one.backend for one in found if "out of memory" in one.error]
        if len(configs) > 1:
            for name in short:
                alone, longer, _ = self.take_turns(precision, batch, {name: configs[name]})
                found = [one for one in found if one.backend != name] + alone
                seconds = max(seconds, longer)
        return found, seconds, refused

    def take_turns(
        self, precision: str, batch: int, configs: dict[str, Config]
    ) -> tuple[list[Measured], float, dict[str, UserError]]:
        """Start the backends one after the other, and have them take turns at training and inference."""
        with ExitStack() as stack:
            sides: list[Side] = []
            for name, config in configs.items():
                side = stack.enter_context(Side(name, config))
                sides.append(side)
                side.begin(TRAIN)
            seconds = take_turns(sides, TRAIN, self.plan.seconds)
            for side in sides:
                side.begin(INFER)
            take_turns(sides, INFER, self.plan.seconds / 2)
        found, refused = [], {}
        beside = [side.name for side in sides if side.seconds[TRAIN]]
        for side in sides:
            if side.failed and side.failed.error:
                refused[side.name] = side.failed.error
                continue
            found.append(measured_of(side, precision, batch, beside))
            self.report(line_of(found[-1]))
            if ready := side.ready.get(TRAIN):
                if ready.fallback:
                    self.note(
                        f"{side.name} is on the CPU of a machine with a GPU: {ready.fallback}"
                    )
        return found, seconds, refused


def with_batch(config: Config, batch: int) -> Config:
    """Return the config with another batch size."""
    return replace(config, train=replace(config.train, batch_size=batch))


def measured_of(side: Side, precision: str, batch: int, beside: Sequence[str]) -> Measured:
    """Return what a side has answered; one that failed keeps no times."""
    known = {"backend": side.name, "precision": precision, "batch": batch}
    start, ready = side.ready.get(TRAIN), side.ready.get(INFER)
    if side.failed or start is None or ready is None:
        reason = side.failed.reason if side.failed else "no answer"
        return Measured(**known, error=reason)
    return Measured(
        **known,
        train=side.seconds[TRAIN],
        infer=side.seconds[INFER],
        beside=beside,
        first_seconds=start.first_seconds,
        compile_seconds=start.compile_seconds,
        memory_mb=ready.memory_mb,
        parameters=start.parameters,
        device=start.device,
    )


def line_of(one: Measured) -> str:
    """Return a line of progress."""
    start = f"{one.precision} batch {one.batch:<6} {one.backend:<15}"
    if one.throughput is None:
        return f"{start} [red]{one.error}[/]"
    per_second = format_number(one.throughput.median)
    return f"{start} {per_second:>9} samples/s, {len(one.train)} rounds"
