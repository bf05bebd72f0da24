"""Curves of a run: the logged values of each key, read from a file, thinned for plots, compared in pairs."""

import gc
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

SECONDS = "perf/seconds"  # wall time of the run so far, the x-axis of plots over time

# Keys that are axes or bars, not curves.
NO_CURVES = ("step", "epoch", SECONDS, "perf/step_ms", "perf/peak_memory_mb")

Event = dict[str, float | str | None]  # a line of metrics.jsonl; a string is "NaN" or "Infinity"

# Prefixes of the keys that are compared between two backends.
SHARED_KEYS = ("train/", "val/", "optim/")


@dataclass(frozen=True, eq=False)
class Curve:
    """Logged values of one key, each array `[points]`."""

    step: np.ndarray  # int64, rising
    seconds: np.ndarray  # float64, of the run so far; NaN if not logged
    value: np.ndarray  # float64

    def __getitem__(self, part: np.ndarray) -> "Curve":
        """Select points."""
        return Curve(self.step[part], self.seconds[part], self.value[part])


@dataclass(frozen=True)
class Target:
    """Value of a metric to reach or to surpass."""

    key: str
    value: float
    maximized: bool = False


@dataclass
class Reading:
    """Metrics of a run."""

    curves: dict[str, Curve] = field(default_factory=dict)  # by key, thinned
    steps: int = 0  # last logged step
    reached: tuple[int, float] | None = None  # first step at the target, and its seconds
    notes: list[str] = field(default_factory=list)  # warnings about the file


@dataclass
class Gap:
    """Difference of two runs in a key, relative to the larger value, step by step."""

    curve: Curve  # over the common logged steps, thinned
    worst: float  # the largest difference; infinite if a value is not finite
    step: int  # of the largest difference


def read_runs(
    files: Sequence[Path], points: int, target: Target | None
) -> tuple[list[Reading], dict[str, Gap]]:
    """Read the metrics.jsonl of a run, or of two that differ in the backend only.

    Return a reading for each file, with at most `points` for a curve, and the gap between the two runs in
    every key that both logged. A missing file has no curves.
    """
    readings, whole = [], []
    for file in files:
        curves, notes = read_curves(file)
        whole.append(curves)
        steps = max((int(curve.step[-1]) for curve in curves.values()), default=0)
        kept = {key: thinned(curves[key], points) for key in curves if key not in NO_CURVES}
        readings.append(Reading(kept, steps, reached(curves, target) if target else None, notes))
    gaps = {}
    if len(whole) > 1:
        first, second = whole
        for key in (key for key in first if key in second and key.startswith(SHARED_KEYS)):
            if found := gap(first[key], second[key], points):
                gaps[key] = found
    return readings, gaps


def read_curves(path: Path) -> tuple[dict[str, Curve], list[str]]:
    """Read every curve of a metrics.jsonl, and return warnings about the damaged lines, which are skipped."""
    try:
        *lines, torn = path.read_bytes().split(b"\n")
    except OSError as error:
        return {}, [f"{path.name} cannot be read: {error.strerror}"]
    notes = [f"{path.name}: line {len(lines) + 1} is torn and left out"] if torn else []
    collecting = gc.isenabled()
    gc.disable()  # it would scan a hundred thousand small dictionaries repeatedly
    try:
        try:
            return columns(json.loads(b"[" + b",".join(lines) + b"]")), notes
        except (ValueError, TypeError, KeyError):
            rows, bad = valid_lines(lines)
            shown = f"line {bad[0]}" if len(bad) == 1 else f"{len(bad)} lines, the first {bad[0]},"
            verb = "is no event" if len(bad) == 1 else "are no events"
            return columns(rows), [*notes, f"{path.name}: {shown} {verb}, left out"]
    finally:
        if collecting:
            gc.enable()


def valid_lines(lines: Iterable[bytes]) -> tuple[list[Event], list[int]]:
    """Return the events, and the numbers of the invalid lines."""
    rows, bad = [], []
    for number, line in enumerate(lines, start=1):
        try:
            columns([row := json.loads(line)])
            rows.append(row)
        except (ValueError, TypeError, KeyError, AttributeError):
            bad.append(number)
    return rows, bad


def columns(rows: Iterable[Event]) -> dict[str, Curve]:
    """Turn events into curves; raise KeyError, TypeError or ValueError for a damaged one."""
    kinds: dict[tuple[str, ...], list[tuple]] = {}
    for row in rows:  # a few kinds of lines, each with its own set of keys
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
    """Join curves, ordered by step; the last value of a step counts."""
    parts = zip(*((curve.step, curve.seconds, curve.value) for curve in curves), strict=True)
    joint = Curve(*map(np.concatenate, parts))
    whole = joint[np.argsort(joint.step, kind="stable")]
    return whole[np.append(np.diff(whole.step) > 0, True)]


def thinned(curve: Curve, points: int) -> Curve:
    """Thin a curve to at most `points` (8 or more) without losing an extreme.

    Each stretch keeps its first, lowest and highest point, and the curve its last, so that its plot looks
    like the plot of the whole curve (Jugel et al. 2014, M4).
    """
    length = len(curve.step)
    if length <= points:
        return curve
    missing = np.isnan(curve.value)
    heights = [np.where(missing, -np.inf, sign * curve.value) for sign in (1, -1)]
    if missing.any():
        heights.append(missing)  # keep a non-finite point
    edges = np.linspace(0, length, (points - 1) // (1 + len(heights)) + 1).astype(np.int64)
    stretch = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    chosen = [edges[:-1], [length - 1]]
    chosen += [np.lexsort((height, stretch))[edges[1:] - 1] for height in heights]
    return curve[np.unique(np.concatenate(chosen))]


def gap(first: Curve, second: Curve, points: int) -> Gap | None:
    """Return the gap between two curves; None if they have no step in common."""
    common, at, other = np.intersect1d(
        first.step, second.step, assume_unique=True, return_indices=True
    )
    if not len(common):
        return None
    ours, theirs = first.value[at], second.value[other]
    with np.errstate(invalid="ignore", divide="ignore"):
        apart = np.abs(ours - theirs) / np.maximum(np.abs(ours), np.abs(theirs))
    apart[(ours == theirs) | (np.isnan(ours) & np.isnan(theirs))] = 0.0
    apart[np.isnan(apart)] = np.inf
    worst = int(np.argmax(apart))
    seconds = np.fmax(first.seconds[at], second.seconds[other])
    curve = thinned(Curve(common, seconds, apart), points)
    return Gap(curve, float(apart[worst]), int(common[worst]))


def reached(curves: Mapping[str, Curve], target: Target) -> tuple[int, float] | None:
    """Return the first step, and its seconds, at which a target was reached."""
    curve = curves.get(target.key)
    if curve is None:
        return None
    meets = np.greater_equal if target.maximized else np.less_equal
    met = np.flatnonzero(meets(curve.value, target.value))
    return (int(curve.step[met[0]]), float(curve.seconds[met[0]])) if len(met) else None
