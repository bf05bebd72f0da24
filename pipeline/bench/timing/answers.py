"""Answers of a benchmark's sides: as a measurement, and as a line of progress."""

from collections.abc import Mapping, Sequence

from pipeline.bench.results import INFER, TRAIN, Measured
from pipeline.bench.timing.turns import Side
from pipeline.compare.conditions import conditions_of
from pipeline.config.experiment import plain
from pipeline.formatting import format_number
from pipeline.run.backends import LayerTimes


def measured_of(
    side: Side,
    precision: str,
    batch: int,
    beside: Sequence[str],
    layers: Mapping[str, LayerTimes],
) -> Measured:
    """Return what a side has answered; one that failed keeps no times."""
    known = {"backend": side.name, "precision": precision, "batch": batch}
    start, ready = side.ready.get(TRAIN), side.ready.get(INFER)
    if side.failed or start is None:
        reason = side.failed.reason if side.failed else "no answer"
        return Measured(**known, error=reason)
    return Measured(
        **known,
        train=side.seconds[TRAIN],
        infer=side.seconds[INFER],
        beside=beside,
        first_seconds=start.first_seconds,
        compile_seconds=start.compile_seconds,
        memory_mb=ready.memory_mb if ready else None,  # None: interrupted before training was over
        parameters=start.parameters,
        layers=layers.get(side.name, {}),
        device=start.device,
        conditions=conditions_of(
            side.name,
            plain(side.config),
            start.device,
            is_fallback=bool(start.fallback),
            attention=start.attention,
            steps_per_call=start.unit,
        ),
    )


def line_of(one: Measured) -> str:
    """Return a line of progress."""
    start = f"{one.precision} batch {one.batch:<6} {one.backend:<15}"
    if one.throughput is None:
        return f"{start} [red]{one.error}[/]"
    per_second = format_number(one.throughput.median)
    return f"{start} {per_second:>9} samples/s, {len(one.train)} rounds"
