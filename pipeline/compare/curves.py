"""The curves of a run: what it logged of each key, read whole, thinned for the eye, compared in pairs."""

import gc
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.metrics import direction

SECONDS = "perf/seconds"  # of the run so far; the axis of wall time

# Of no use as a curve: axes, and what a bar shows.
NO_CURVES = ("step", "epoch", SECONDS, "perf/step_ms", "perf/peak_memory_mb")

# What two backends have to agree about.
SHARED_KEYS = ("train/", "val/", "optim/")


@dataclass(frozen=True, eq=False)
class Curve:
    """What was logged of one key.

    Args:
        step: int64 `[points]`, rising.
        seconds: of the run so far, float64 `[points]`; NaN where it was not logged.
        value: float64 `[points]`.
    """

    step: np.ndarray
    seconds: np.ndarray
    value: np.ndarray

    def __getitem__(self, part: Any) -> "Curve":
        """Some of its points."""
        return Curve(self.step[part], self.seconds[part], self.value[part])


@dataclass(frozen=True)
class Target:
    """A value of a metric that a run is to reach.

    Args:
        key: of the metric.
        value: as good as this, or better.
    """

    key: str
    value: float


@dataclass
class Reading:
    """What is kept of a run's metrics.

    Attributes:
        curves: by key, thinned.
        last: the last value of each key.
        steps: the last step that was logged.
        reached: step and seconds at which the target was met, if it was.
        notes: what was wrong with the file.
    """

    curves: dict[str, Curve] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    reached: tuple[int, float] | None = None
    notes: list[str] = field(default_factory=list)


@dataclass
class Gap:
    """How far two runs are apart in a key, relative to the larger of the two, step by step.

    Attributes:
        curve: over the steps that both have logged; thinned.
        worst: the largest difference; infinite where one of the two has no number.
        step: where it is.
    """

    curve: Curve
    worst: float
    step: int


def read_runs(
    files: Sequence[Path], points: int, target: Target | None
) -> tuple[list[Reading], dict[str, Gap]]:
    """What is kept of the metrics of a run, or of two that differ in nothing but the backend.

    Args:
        files: metrics.jsonl of each; one that is not there has no curves.
        points: of a curve, at the most.
        target: to look for.

    Returns:
        A reading for each file, and between the first two the gap of every key that both logged.
    """
    readings, whole = [], []
    for file in files:
        curves, notes = read_curves(file)
        whole.append(curves)
        readings.append(
            Reading(
                curves={
                    key: thinned(curve, points)
                    for key, curve in curves.items()
                    if key not in NO_CURVES
                },
                last={key: float(curve.value[-1]) for key, curve in curves.items()},
                steps=max((int(curve.step[-1]) for curve in curves.values()), default=0),
                reached=reached(curves, target) if target else None,
                notes=notes,
            )
        )
    gaps = {}
    if len(whole) > 1:
        first, second = whole[:2]
        gaps = {
            key: gap(first[key], second[key], points)
            for key in first
            if key in second and key.startswith(SHARED_KEYS)
        }
    return readings, {key: found for key, found in gaps.items() if found}


def read_curves(path: Path) -> tuple[dict[str, Curve], list[str]]:
    """Every curve of a metrics.jsonl, and what was wrong with the file; lines that are no events are
    left out."""
    try:
        *lines, torn = path.read_bytes().split(b"\n")
    except OSError as error:
        return {}, [f"{path.name} cannot be read: {error.strerror}"]
    notes = [f"{path.name}: line {len(lines) + 1} is torn and left out"] if torn else []
    collecting = gc.isenabled()
    gc.disable()  # a hundred thousand small dictionaries would be gone through again and again
    try:
        try:
            return columns(json.loads(b"[" + b",".join(lines) + b"]")), notes
        except (ValueError, TypeError, KeyError):
            rows, bad = sound(lines)
            shown = f"line {bad[0]}" if len(bad) == 1 else f"{len(bad)} lines, the first {bad[0]},"
            verb = "is no event" if len(bad) == 1 else "are no events"
            return columns(rows), [*notes, f"{path.name}: {shown} {verb}, left out"]
    finally:
        if collecting:
            gc.enable()


def sound(lines: Iterable[bytes]) -> tuple[list[dict[str, Any]], list[int]]:
    """The lines that are events, and the numbers of those that are not."""
    rows, bad = [], []
    for number, line in enumerate(lines, start=1):
        try:
            columns([row := json.loads(line)])
            rows.append(row)
        except (ValueError, TypeError, KeyError, AttributeError):
            bad.append(number)
    return rows, bad


def columns(rows: Iterable[Mapping[str, Any]]) -> dict[str, Curve]:
    """Events as curves.

    Raises:
        KeyError: an event has no step.
        TypeError, ValueError: a value is no number.
    """
    kinds: dict[tuple[str, ...], list[tuple]] = {}
    for row in rows:  # of a handful of kinds, each with the same keys
        kinds.setdefault(tuple(row), []).append(tuple(row.values()))
    parts: dict[str, list[Curve]] = {}
    for keys, values in kinds.items():
        table = np.array(values, dtype=np.float64).reshape(len(values), len(keys))
        by_key = dict(zip(keys, table.T, strict=True))
        if not np.isfinite(by_key["step"]).all():
            raise ValueError("an event without a step")
        step = by_key["step"].astype(np.int64)
        seconds = by_key.get(SECONDS, np.full(len(step), np.nan))
        for key, value in by_key.items():
            if key != "step":
                parts.setdefault(key, []).append(Curve(step, seconds, value))
    return {key: joined(curves) for key, curves in parts.items()}


def joined(curves: Sequence[Curve]) -> Curve:
    """One curve of several, in the order of their steps; of a step logged twice the last counts."""
    step, seconds, value = (
        np.concatenate([getattr(curve, name) for curve in curves])
        for name in ("step", "seconds", "value")
    )
    order = np.argsort(step, kind="stable")
    whole = Curve(step, seconds, value)[order]
    return whole[np.append(np.diff(whole.step) > 0, True)]


def thinned(curve: Curve, points: int) -> Curve:
    """A curve of so many points at the most, of which none of the extremes is missing.

    Of each of so many stretches the first point, the lowest and the highest stay, and the last of
    all: what is drawn then looks like the whole (Jugel et al. 2014, M4).

    Args:
        curve: of any length.
        points: 8 or more.
    """
    length = len(curve.step)
    if length <= points:
        return curve
    missing = np.isnan(curve.value)
    heights = [np.where(missing, -np.inf, sign * curve.value) for sign in (1, -1)]
    if missing.any():
        heights.append(missing)  # that there was no number must not go unseen
    edges = np.linspace(0, length, (points - 1) // (1 + len(heights)) + 1).astype(np.int64)
    stretch = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    chosen = [edges[:-1], [length - 1]]
    chosen += [np.lexsort((height, stretch))[edges[1:] - 1] for height in heights]
    return curve[np.unique(np.concatenate(chosen))]


def gap(first: Curve, second: Curve, points: int) -> Gap | None:
    """How far two curves are apart, if they have a step in common."""
    common, at, there = np.intersect1d(
        first.step, second.step, assume_unique=True, return_indices=True
    )
    if not len(common):
        return None
    ours, theirs = first.value[at], second.value[there]
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.abs(ours - theirs) / np.maximum(np.abs(ours), np.abs(theirs))
    apart[(ours == theirs) | (np.isnan(ours) & np.isnan(theirs))] = 0.0
    apart[np.isnan(apart)] = np.inf
    worst = int(np.argmax(apart))
    seconds = np.fmax(first.seconds[at], second.seconds[there])
    curve = thinned(Curve(common, seconds, apart), points)
    return Gap(curve, float(apart[worst]), int(common[worst]))


def reached(curves: Mapping[str, Curve], target: Target) -> tuple[int, float] | None:
    """Step and seconds at which a target was met first."""
    curve = curves.get(target.key)
    if curve is None:
        return None
    mode = direction(target.key)
    met = np.flatnonzero(
        (curve.value >= target.value) if mode == "max" else (curve.value <= target.value)
    )
    return (int(curve.step[met[0]]), float(curve.seconds[met[0]])) if len(met) else None
