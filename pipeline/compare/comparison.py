"""Everything that is told of some runs: the table, the page and the pictures are made of this."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from os import sched_getaffinity
from pathlib import Path
from typing import Any

from pipeline.compare.curves import Target, read_runs
from pipeline.compare.naming import alike, differing, name_all, pairs, short, value_of
from pipeline.compare.pair import Pair
from pipeline.compare.records import Record, collect, parities
from pipeline.compare.statistics import Effect, Estimate, corrected, effect, estimate
from pipeline.metrics import direction

METRICS = "metrics.jsonl"

POINTS = 240_000  # of all curves together, so that the page stays small and quick
FEWEST, MOST = 60, 1500  # of one curve
CURVES = 8  # that a run has, about

MANY = 30e6  # bytes of metrics from which two processes are quicker than one

# What is compared over seeds beside the test: a ratio, since speeds and times multiply.
RATIOS = {
    "throughput": lambda record: record.result.get("throughput") or None,
    "seconds": lambda record: record.part("seconds").get("total"),
}


@dataclass(frozen=True)
class Seeds:
    """Runs that differ in nothing but the seed.

    Args:
        name: what they have in common, of that which differs at all.
        runs: their positions among all.
        estimates: by key: mean and interval.
    """

    name: str
    runs: tuple[int, ...]
    estimates: dict[str, Estimate]


@dataclass
class Comparison:
    """Some runs, and what comes of having them side by side.

    Attributes:
        records: the runs.
        varied: keys by which they are named.
        target: that times are told to; None without one.
        price: of an hour on one device; None without one.
        pairs: runs that differ in the backend only.
        seeds: runs that differ in the seed only, where there are several seeds.
        effects: backends over the same seeds.
        parities: what checks of parity have found.
        notes: what is wrong with the runs as a whole.
    """

    records: list[Record]
    varied: list[str]
    target: Target | None = None
    price: float | None = None
    pairs: list[Pair] = field(default_factory=list)
    seeds: list[Seeds] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    parities: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def tests(self) -> list[str]:
        """The test metrics that any run has."""
        return list(dict.fromkeys(key for record in self.records for key in record.test))

    def cost(self, record: Record) -> float | None:
        """What a run has cost, at the price of an hour on one device."""
        seconds = record.part("seconds").get("total")
        if self.price is None or seconds is None:
            return None
        return seconds / 3600 * self.price * (record.result.get("device_count") or 1)

    def label(self, positions: Sequence[int], but: Sequence[str]) -> str:
        """What some runs have in common, of that which differs at all.

        Args:
            positions: of the runs.
            but: keys that are not told.
        """
        config = self.records[positions[0]].config
        keys = [key for key in self.varied if key.partition(".")[0] not in but and key in config]
        return " ".join(f"{short(key)}={value_of(config[key])}" for key in keys)


def comparison(
    paths: Sequence[Path], target: Target | None = None, price: float | None = None
) -> Comparison:
    """All runs at or below some folders, compared.

    Args:
        paths: of runs, sweeps, or folders of them.
        target: a value whose first time is told; None takes the best that all runs have reached.
        price: of an hour on one device.

    Raises:
        UserError: there is no run.
    """
    records = collect(paths)
    made = Comparison(records, name_all(records), target or common_target(records), price)
    made.pairs = [Pair(found, made.label(found, ["backend"])) for found in pairs(records)]
    read_metrics(made)
    for pair in made.pairs:
        pair.judge(*(records[position] for position in pair.runs))
    made.seeds = seeds_of(made)
    made.effects = effects_of(made)
    made.parities = list(parities(paths))
    made.notes = mixed(records)
    return made


def common_target(records: Sequence[Record]) -> Target | None:
    """The best value that every finished run has reached, where they were judged by the same metric."""
    bests = [record.best for record in records if record.status == "completed"]
    metrics = {best.get("metric") for best in bests}
    if len(metrics) != 1 or None in metrics:
        return None
    [metric] = metrics
    worst = min if direction(metric) == "max" else max
    return Target(metric, float(worst(best["value"] for best in bests)))


def read_metrics(made: Comparison) -> None:
    """Read the metrics of all runs, those of a pair together; of many by several processes."""
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
    gaps = {}
    for task, (readings, between) in zip(tasks, found, strict=True):
        gaps[task] = between
        for position, reading in zip(task, readings, strict=True):
            records[position].reading = reading
            records[position].notes += notes_of(records[position], reading.notes)
    for pair in made.pairs:
        pair.gaps = gaps[pair.runs]


def notes_of(record: Record, notes: Sequence[str]) -> list[str]:
    """What was wrong with the metrics of a run: a job that was refused has none, and one that runs is
    writing its last line."""
    if not record.config:
        return []
    return [note for note in notes if record.status != "running" or "torn" not in note]


def seeds_of(made: Comparison) -> list[Seeds]:
    """The finished runs by what they have in common but the seed, where any has several."""
    found = []
    for positions in alike(made.records, but=("seed",)):
        done = [p for p in positions if made.records[p].status == "completed"]
        if done:
            values = {
                key: [made.records[p].test[key] for p in done]
                for key in made.tests
                if all(key in made.records[p].test for p in done)
            }
            for key, of in RATIOS.items():
                told = [of(made.records[p]) for p in done]
                if None not in told:
                    values[key] = told
            estimates = {key: estimate(told) for key, told in values.items()}
            found.append(Seeds(made.label(done, ["seed"]), tuple(done), estimates))
    return found if any(len(group.runs) > 1 for group in found) else []


def effects_of(made: Comparison) -> list[Effect]:
    """The backends over the same seeds, quantity by quantity."""
    done = [
        pair
        for pair in made.pairs
        if all(made.records[position].status == "completed" for position in pair.runs)
    ]
    settings: dict[str, list[Pair]] = {}
    for pair in done:
        settings.setdefault(made.label(pair.runs, ["backend", "seed"]), []).append(pair)
    quantities = {key: (lambda record, key=key: record.test.get(key)) for key in made.tests}
    found = []
    for setting, alike_pairs in settings.items():
        for key, of in (quantities | RATIOS).items():
            values = [[of(made.records[p]) for p in pair.runs] for pair in alike_pairs]
            values = [(ours, theirs) for ours, theirs in values if None not in (ours, theirs)]
            if not values:
                continue
            backends = tuple(made.records[p].backend for p in alike_pairs[0].runs)
            found.append(
                effect(setting, key, backends, *zip(*values, strict=True), ratio=key in RATIOS)
            )
    return corrected(found)


def mixed(records: Sequence[Record]) -> list[str]:
    """What makes runs hard to compare: other versions, other hardware."""
    notes = []
    versions: dict[str, set[str]] = {}
    for record in records:
        for name, version in record.part("versions").items():
            versions.setdefault(name, set()).add(str(version))
    for name, found in versions.items():
        if len(found) > 1:
            notes.append(f"the runs had different versions of {name}: {', '.join(sorted(found))}")
    for key in ("processor", "cores"):
        machines = [record.part("hardware") for record in records]
        found = {str(machine[key]) for machine in machines if key in machine}
        if len(found) > 1:
            notes.append(f"the runs were on different {key}: {', '.join(sorted(found))}")
    return notes


def config_differences(made: Comparison) -> dict[str, list[str]]:
    """Every key of the config that is not the same in all runs, with its value in each."""
    keys = differing(made.records, anything=True)
    configs = [record.config for record in made.records]
    return {key: [value_of(config.get(key, "–")) for config in configs] for key in keys}
