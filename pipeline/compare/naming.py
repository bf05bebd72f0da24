"""Names of runs by their differing keys, and groups of runs: pairs of backends, seeds, folds."""

from collections import Counter
from collections.abc import Hashable, Sequence
from itertools import combinations

from pipeline.backend_specs import labels
from pipeline.compare.records import Record
from pipeline.config.experiment import REPEATS
from pipeline.storage.signature import is_irrelevant

# Keys about the start or end of a run, which are not part of its name.
OF_THE_COMMAND = (
    "resume",
    "train.stop_after",
    "sweep.retry_failed",
    "sweep.dry_run",
    "sweep.vectorize",
)


def name_all(records: Sequence[Record]) -> list[str]:
    """Name each run by the values of its config that differ between runs, and return their keys."""
    found = differing(records)
    keys = [key for key in found if key not in OF_THE_COMMAND and not renamed(key, found)]
    for record in records:
        record.name = setting(record, keys) or record.result.name or record.folder.name
    counts = Counter(record.name for record in records)
    for record in records:
        if counts[record.name] > 1:
            record.name = f"{record.name} ({record.folder})"
    return keys


def differing(records: Sequence[Record]) -> list[str]:
    """Return the keys whose values differ between configs."""
    configs = [config for record in records if (config := record.config)]
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if len({str(config.get(key)) for config in configs}) > 1]


def renamed(key: str, differing: Sequence[str]) -> bool:
    """Return whether a key differs only because its group does, such as the keys of `model=mlp`."""
    group = f"{key.partition('.')[0]}.name"
    return key not in {group, *REPEATS} and group in differing


def setting(record: Record, keys: Sequence[str]) -> str:
    """Return the values of some keys of a run's config, as they are typed."""
    config = record.config
    return " ".join(f"{short(key)}={value_of(config[key])}" for key in keys if key in config)


def short(key: str) -> str:
    """Return a key as it is typed: `model` for `model.name`."""
    return key.removesuffix(".name")


def value_of(value: object) -> str:
    """Format a value for a run's name; six digits for one drawn by a search."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def pairs(records: Sequence[Record]) -> list[tuple[int, int]]:
    """Return the positions of every two runs that differ in the backend only, in the order of `labels`."""
    found: list[tuple[int, int]] = []
    for positions in alike(records, but=("backend",)):
        sides = [[p for p in positions if records[p].backend == label] for label in labels()]
        for first, second in combinations(sides, 2):
            found += zip(
                first, second, strict=False
            )  # a repeated command has two runs on each side
    return sorted(found)


def alike(records: Sequence[Record], but: Sequence[str]) -> list[list[int]]:
    """Group the positions of runs whose relevant configs differ only in the keys or groups `but`.

    A run without a config is in no group.
    """
    groups: dict[Hashable, list[int]] = {}
    for position, record in enumerate(records):
        if config := record.config:
            kept = tuple(
                (key, str(value))
                for key, value in sorted(config.items())
                if not is_irrelevant(key) and not {key, key.partition(".")[0]} & set(but)
            )
            groups.setdefault(kept, []).append(position)
    return list(groups.values())
