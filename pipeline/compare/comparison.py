"""Runs side by side, with their pairs, seeds and statistics: the source of tables, page and plots."""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from os import sched_getaffinity
from pathlib import Path

from pipeline.compare.curves import Gap, Target, read_runs
from pipeline.compare.naming import alike, differing, name_all, pairs, setting, value_of
from pipeline.compare.records import Record, collect, direction, parities
from pipeline.compare.statistics import (
    ROUNDING,
    ROUNDING_32,
    Effect,
    Estimate,
    corrected,
    effect,
    estimate,
)
from pipeline.config.experiment import REPEATS
from pipeline.config.train import Precision
from pipeline.parity.lockstep import BARS

METRICS = "metrics.jsonl"
POINTS = 240_000  # points of all curves together: limits the size of the page
FEWEST, MOST = 60, 1500  # limits on the points kept of one curve, for many runs and for few
CURVES = 8  # curves of a run, approximately; they divide the points of a run
MANY = 30e6  # bytes of metrics above which several processes read them

RATIOS = ("throughput", "seconds")  # also compared over seeds
LOSSES = ("train/loss", "val/loss")  # on which the verdict on a pair is based
DIGESTS = {"init_digest": "the weights at step 0", "data_digest": "the batches"}


@dataclass
class Pair:
    """The same run on two backends, and the verdict on their logged metrics."""

    runs: tuple[int, int]  # positions in the comparison
    name: str  # their setting
    gaps: dict[str, Gap] = field(default_factory=dict)  # by key
    same: bool | None = None  # true if they are the same experiment; None if unknown
    words: str = ""  # the verdict as a sentence

    def judge(self, first: Record, second: Record) -> None:
        """Set the verdict. Values are compared only in fp64; in other precisions rounding differs."""
        for key, what in DIGESTS.items():
            digests = {getattr(run.result, key) for run in (first, second)}
            if None in digests:
                self.words = f"not known: no {key} of both yet"
                return
            if len(digests) > 1:
                self.same, self.words = False, f"not the same experiment: {what} differ ({key})"
                return
        gaps = {key: self.gaps[key] for key in LOSSES if key in self.gaps}
        if not gaps:
            self.words = "not known: no step that both have logged"
            return
        key, worst = max(gaps.items(), key=lambda item: item[1].worst)
        apart = f"{key} differs by at most {worst.worst:.1e} (step {worst.step})"
        dropped = any(first.config.get(f"model.{key}") for key in ("dropout", "drop_path"))
        if dropped and first.config.get("train.randomness") == "native":
            self.words = f"each backend drew its own dropout masks: {apart}"
        elif first.config.get("train.precision") != Precision.fp64.name:
            self.words = f"the same weights at step 0 and the same batches: {apart}"
        else:
            self.same = worst.worst <= BARS[Precision.fp64]
            self.words = f"the same: {apart}" if self.same else f"they part: {apart}"


@dataclass(frozen=True)
class Seeds:
    """Runs that differ in seed or fold only: their setting, positions, and mean and interval by key."""

    name: str
    runs: tuple[int, ...]
    estimates: dict[str, Estimate]


@dataclass
class Comparison:
    """Runs side by side."""

    records: list[Record]
    varied: list[str]  # keys that differ and name the runs
    target: Target | None = None  # to report the time to; by default the best that all have reached
    price: float | None = None  # of an hour on one device
    pairs: list[Pair] = field(default_factory=list)
    seeds: list[Seeds] = field(default_factory=list)  # empty if no setting has several
    effects: list[Effect] = field(default_factory=list)
    parities: list[dict[str, object]] = field(default_factory=list)  # of `pipeline.parity`
    notes: list[str] = field(default_factory=list)  # warnings about the runs as a whole

    @property
    def repeats(self) -> str:
        """The word for runs of one setting: `seeds`, or `folds`, or both."""
        varied = [word for key, word in REPEATS.items() if key in self.varied]
        return " and ".join(varied or ["seeds"])

    @property
    def tests(self) -> list[str]:
        """The test metrics of all runs."""
        return list(dict.fromkeys(key for record in self.records for key in record.result.test))

    def cost(self, record: Record) -> float | None:
        """Return the cost of a run on all its devices; None without a price."""
        seconds = record.result.seconds.get("total")
        if self.price is None or seconds is None:
            return None
        return seconds / 3600 * self.price * (record.result.device_count or 1)

    def label(self, positions: Sequence[int], but: Sequence[str]) -> str:
        """Return the common setting of some runs: the varied keys, except those in `but`."""
        keys = [key for key in self.varied if not {key, key.partition(".")[0]} & set(but)]
        return setting(self.records[positions[0]], keys)

    def backends(self, runs: tuple[int, int]) -> tuple[str, str]:
        """Return the backends of two runs."""
        first, second = (str(self.records[position].backend) for position in runs)
        return first, second


def comparison(
    paths: Sequence[Path], target: Target | None = None, price: float | None = None
) -> Comparison:
    """Compare all runs at or below some folders; see `Comparison` for `target` and `price`."""
    records = collect(paths)
    if target:
        target = replace(target, maximized=direction(records, target.key) == "max")
    made = Comparison(records, name_all(records), target or common_target(records), price)
    made.pairs = pairs_of(made)
    read_metrics(made)
    for pair in made.pairs:
        pair.judge(*(records[position] for position in pair.runs))
    made.seeds = seeds_of(made)
    made.effects = effects_of(made)
    made.parities = list(parities(paths))
    made.notes = mixed(records)
    if target and not any(target.key in record.reading.curves for record in records):
        logged = sorted({key for record in records for key in record.reading.curves})
        made.notes.append(f"no run has logged the target {target.key}, only {', '.join(logged)}")
    return made


def pairs_of(made: Comparison) -> list[Pair]:
    """Pair the runs; with more than two backends the name of a pair says which two."""
    found = [Pair(runs, made.label(runs, ["backend"])) for runs in pairs(made.records)]
    sides = {pair.runs: made.backends(pair.runs) for pair in found}
    if len(set(sides.values())) > 1:
        for pair in found:
            pair.name = ", ".join(filter(None, [pair.name, " and ".join(sides[pair.runs])]))
    return found


def common_target(records: Sequence[Record]) -> Target | None:
    """Return the best value that every completed run has reached, if all have the same metric."""
    bests = [record.best for record in records if record.status == "completed"]
    metric = bests[0].metric if bests else None
    values = [best.value for best in bests if best.metric == metric and best.value is not None]
    if metric is None or len(values) < len(bests):
        return None
    more = direction(records, metric) == "max"
    return Target(metric, float(min(values) if more else max(values)), more)


def read_metrics(made: Comparison) -> None:
    """Read the metrics of all runs, pair by pair; in several processes if the files are large."""
    records = made.records
    paired = {position for pair in made.pairs for position in pair.runs}
    tasks: list[tuple[int, ...]] = [pair.runs for pair in made.pairs]
    tasks += [(position,) for position in range(len(records)) if position not in paired]
    points = max(FEWEST, min(MOST, POINTS // (CURVES * len(records))))
    files = [[records[position].folder / METRICS for position in task] for task in tasks]
    read = partial(read_runs, points=points, target=made.target)
    size = 0
    for file in (file for task in files for file in task):
        with suppress(OSError):
            size += file.stat().st_size
    workers = min(len(sched_getaffinity(0)), len(tasks)) if size > MANY else 1
    if workers > 1:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            found = list(pool.map(read, files, chunksize=max(1, len(files) // (8 * workers))))
    else:
        found = [read(task) for task in files]
    readings = {
        position: reading
        for task, (of_task, _) in zip(tasks, found, strict=True)
        for position, reading in zip(task, of_task, strict=True)
    }
    for position, reading in readings.items():
        record = records[position]
        record.reading = reading
        running = record.status == "running"  # its last line may be unfinished
        began = record.status == "completed" or (record.folder / METRICS).exists()
        if record.config and began:  # a refused job has no config, and no metrics
            record.notes += [n for n in reading.notes if not (running and "torn" in n)]
    for pair, (_, gaps) in zip(made.pairs, found, strict=False):
        pair.gaps = gaps


def quantities(record: Record) -> dict[str, float]:
    """Return the test metrics of a run, and its speed and time where they are known."""
    result = record.result
    speed = {"throughput": result.throughput or None, "seconds": result.seconds.get("total")}
    known = {key: value for key, value in speed.items() if value is not None}
    return {**result.test, **known}


def seeds_of(made: Comparison) -> list[Seeds]:
    """Group the completed runs that differ in seed or fold only, if any group has several."""
    found, keys = [], (*made.tests, *RATIOS)
    for positions in alike(made.records, but=[*REPEATS]):
        if done := [p for p in positions if made.records[p].status == "completed"]:
            records = [made.records[p] for p in done]
            values = [quantities(record) for record in records]
            estimates = {
                key: estimate([of_run[key] for of_run in values], overlap(records, key))
                for key in keys
                if all(key in of_run for of_run in values)
            }
            found.append(Seeds(made.label(done, [*REPEATS]), tuple(done), estimates))
    return found if any(len(group.runs) > 1 for group in found) else []


def overlap(records: Sequence[Record], key: str) -> float:
    """Return the ratio of test to training samples of runs on several folds, which share the latter.

    It is 0 for one fold, and for speeds and times.
    """
    folds = [record.config.get("dataset.fold") for record in records]
    if key in RATIOS or len(set(folds)) < 2:
        return 0.0
    return 1 / (int(str(records[0].config["dataset.folds"])) - 1)


def effects_of(made: Comparison) -> list[Effect]:
    """Compare the backends over the same seeds and folds, quantity by quantity."""
    settings: dict[tuple[str, tuple[str, str]], list[tuple[Record, Record]]] = {}
    for pair in made.pairs:
        first, second = (made.records[position] for position in pair.runs)
        if first.status == second.status == "completed":
            label = made.label(pair.runs, ["backend", *REPEATS])
            settings.setdefault((label, made.backends(pair.runs)), []).append((first, second))
    keys = (*made.tests, *RATIOS)
    maximized = {key: direction(made.records, key) == "max" for key in keys}  # asks every run
    effects = []
    for (label, backends), runs in settings.items():
        values = [(quantities(first), quantities(second)) for first, second in runs]
        in_fp64 = all(one.config.get("train.precision") == "fp64" for pair in runs for one in pair)
        rounding = ROUNDING if in_fp64 else ROUNDING_32
        for key, more in maximized.items():
            known = [(one[key], other[key]) for one, other in values if key in one and key in other]
            if known:
                ours, theirs = zip(*known, strict=True)
                shared = overlap([first for first, _ in runs], key)
                found = effect(
                    label, key, backends, ours, theirs, key in RATIOS, more, shared, rounding
                )
                effects.append(replace(found, repeats=made.repeats))
    return corrected(effects)


def mixed(records: Sequence[Record]) -> list[str]:
    """Return warnings about runs that are hard to compare: different versions or hardware."""
    values: defaultdict[str, set[str]] = defaultdict(set)
    for record in records:
        for name, version in record.result.versions.items():
            values[f"had different versions of {name}"].add(version)
        for key in ("processor", "cores"):
            if key in record.result.hardware:
                values[f"were on different {key}"].add(str(record.result.hardware[key]))
    return [
        f"the runs {difference}: {', '.join(sorted(different))}"
        for difference, different in values.items()
        if len(different) > 1
    ]


def config_differences(made: Comparison) -> dict[str, list[str]]:
    """Return every key of the config that differs between runs, with its value in each."""
    configs = [record.config for record in made.records]
    return {
        key: [value_of(config.get(key, "–")) for config in configs]
        for key in differing(made.records)
    }
