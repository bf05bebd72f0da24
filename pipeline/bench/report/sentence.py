"""The answer of a benchmark in sentences: which backend is faster, by how much, and from which batch size."""

import math
from collections.abc import Iterator, Mapping, Sequence

from pipeline.bench.results import INFER, OUT_OF_MEMORY, TRAIN, Bench, Measured, times_as_fast
from pipeline.bench.statistics import Interval
from pipeline.formatting import format_number

VERBS = {TRAIN: "trains", INFER: "infers"}
WIDE = 0.2  # half of an interval, relative to its median, above which both ends are named
EXACT = 5e-4  # … below which it is left out
SAME_MEMORY = 0.05  # relative difference up to which two backends take the same memory


def sentences(bench: Bench) -> list[str]:
    """Return the answer: a sentence on training and one on inference for each precision."""
    found = []
    for precision in bench.precisions:
        for phase in (TRAIN, INFER):
            if sentence := answer(bench, precision, phase):
                found.append(sentence)
    return found


def answer(bench: Bench, precision: str, phase: str) -> str:
    """Return the answer for a precision; empty if several were measured, but none took turns."""
    batch = reference(bench, precision)
    if batch is None:
        return alone(bench, precision) if phase == TRAIN else ""
    at = bench.at(precision, batch)
    best = fastest(at, phase)
    others = {name: one for name, one in at.items() if name != best}
    gains = {name: times_as_fast(at[best], one, phase) for name, one in others.items()}
    known = {name: gain for name, gain in gains.items() if gain is not None}
    if not known:
        return ""
    start = f"{precision}: at batch {batch} "
    clear = {name: gain for name, gain in known.items() if gain.low > 1}
    if not clear:
        factors = {name: times(gain.inverse, ends=", {} to {}") for name, gain in known.items()}
        also = " or ".join(
            f"{name} ({factor.replace('times', 'times as fast')})"
            for name, factor in factors.items()
        )
        text = f"{start}no difference is shown between {best} and {also} in {noun(phase)}"
        return "; ".join([text, *(failures(bench, precision) if phase == TRAIN else [])]) + "."
    parts = [
        f"{best} {VERBS[phase]} {joined([f'{times(g)} as fast as {n}' for n, g in clear.items()])}"
    ]
    if phase == TRAIN and (memory := memory_beside(at[best], [others[name] for name in clear])):
        parts.append(memory)
    text = start + (", and " if len(clear) > 1 else " and ").join(parts)
    if alike := [name for name in known if name not in clear]:
        text += f"; no difference to {joined(alike)} is shown"
    for first, names in grouped(overtaking(bench, precision, phase, best, batch)).items():
        verb = "overtakes" if len(names) == 1 else "overtake"
        text += f"; {joined(names)} {verb} it from batch {first}"
    for last, names in grouped(ahead_below(bench, precision, phase, best, batch)).items():
        text += f"; up to batch {last} {joined(names)} {'is' if len(names) == 1 else 'are'} faster"
    return "; ".join([text, *(failures(bench, precision) if phase == TRAIN else [])]) + "."


def grouped(sizes: Mapping[str, int]) -> dict[int, list[str]]:
    """Return the backends of each batch size."""
    return {size: [n for n in sizes if sizes[n] == size] for size in sorted({*sizes.values()})}


def reference(bench: Bench, precision: str) -> int | None:
    """Return the batch size that is compared: the experiment's own, or the nearest with two backends."""
    several = [n for n in bench.batches(precision) if len(bench.at(precision, n)) > 1]
    return nearest(several, bench.batch)


def nearest(sizes: Sequence[int], batch: int) -> int | None:
    """Return the batch size that is nearest to another; the smaller of two, None of none."""
    return min(sizes, key=lambda size: (abs(math.log(size / batch)), size), default=None)


def alone(bench: Bench, precision: str) -> str:
    """Return the speed of the only backend that was measured; empty if there are none or several."""
    found = [name for name in bench.backends if bench.series(precision, name)]
    batch = nearest(bench.batches(precision), bench.batch)
    if len(found) != 1 or batch is None:
        return ""
    rate = bench.at(precision, batch)[found[0]].throughput
    number = format_number(float(f"{rate.median if rate else math.nan:.3g}"))
    others = joined([name for name in bench.backends if name not in found])
    beside = f", and {others} {'was' if len(bench.backends) == 2 else 'were'} not measured" * bool(
        others
    )
    return f"{precision}: at batch {batch} {found[0]} trains {number} samples per second{beside}."


def fastest(at: Mapping[str, Measured], phase: str) -> str:
    """Return the backend with the smallest median; ties go by name."""

    def median(name: str) -> tuple[float, str]:
        interval = at[name].interval(phase)
        return (interval.median if interval else math.inf, name)

    return min(at, key=median)


def overtaking(bench: Bench, precision: str, phase: str, best: str, batch: int) -> dict[str, int]:
    """Return the backends that are faster than the best from a larger batch size on, with that size."""
    found = {}
    for name in bench.backends:
        wins = list(compared(bench, precision, phase, name, best))
        above = [(size, gain) for size, gain in wins if size > batch]
        shown = [size for size, gain in above if gain.low > 1]
        if shown and all(gain.low > 1 for size, gain in above if size >= shown[0]):
            found[name] = shown[0]
    return found


def ahead_below(bench: Bench, precision: str, phase: str, best: str, batch: int) -> dict[str, int]:
    """Return the backends that are faster than the best up to a smaller batch size, with that size."""
    found = {}
    for name in bench.backends:
        wins = list(compared(bench, precision, phase, name, best))
        below = [(size, gain) for size, gain in wins if size < batch]
        shown = [size for size, gain in below if gain.low > 1]
        if shown and all(gain.low > 1 for size, gain in below if size <= shown[-1]):
            found[name] = shown[-1]
    return found


def failures(bench: Bench, precision: str) -> list[str]:
    """Return who fails, and at which batch sizes; whoever runs out of memory, from which one."""
    found = []
    for name in bench.backends:
        errors = {
            one.batch: one.error
            for one in bench.measured
            if (one.precision, one.backend) == (precision, name) and one.error
        }
        short = [size for size, error in errors.items() if OUT_OF_MEMORY in error]
        if other := sorted(errors.keys() - short):
            found.append(f"{name} fails at batch {joined([*map(str, other)])}")
        if short:
            found.append(f"{name} runs out of memory from batch {min(short)}")
    return found


def compared(
    bench: Bench, precision: str, phase: str, name: str, other: str
) -> Iterator[tuple[int, Interval]]:
    """Yield how many times as fast a backend is as another, by batch size in ascending order."""
    for size in bench.batches(precision):
        at = bench.at(precision, size)
        if name != other and name in at and other in at:
            gain = times_as_fast(at[name], at[other], phase)
            if gain is not None:
                yield size, gain


def memory_beside(best: Measured, others: list[Measured]) -> str:
    """Return how many times the memory of others a backend takes; empty if one is not known."""
    if not best.memory_mb or not all(one.memory_mb for one in others):
        return ""
    ratios = [best.memory_mb / one.memory_mb for one in others if one.memory_mb]
    if all(abs(value - 1) <= SAME_MEMORY for value in ratios):
        return "takes as much memory"
    factors = joined([*dict.fromkeys(short(value) for value in ratios)])
    return f"takes {factors} times the memory"


def times(gain: Interval, ends: str = " ({} to {})") -> str:
    """Return a factor with half its interval as text, or with both ends: `1.4 ± 0.1 times`."""
    if gain.half > WIDE * gain.median:
        known = gain.half < math.inf
        middle, low, high = (short(end) for end in (gain.median, gain.low, gain.high))
        return f"{middle} times{ends.format(low, high) * known}"
    if gain.half < EXACT * gain.median:
        return f"{gain.median:.3g} times"
    half = f"{gain.half:.1g}"
    decimals = max(1, min(3, len(half.partition(".")[2])))
    return f"{gain.median:.{decimals}f} ± {half} times"


def short(value: float) -> str:
    """Return a number with two significant digits."""
    return format_number(value if math.isnan(value) else float(f"{value:.2g}"))


def noun(phase: str) -> str:
    """Return the noun of what was timed."""
    return "training" if phase == TRAIN else "inference"


def joined(words: list[str]) -> str:
    """Join words as a list in a sentence."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))
