"""What tells runs from each other, and which belong together: the pair of backends, the seeds."""

from collections import Counter
from collections.abc import Hashable, Sequence

from pipeline.backends import BACKENDS
from pipeline.compare.records import Record
from pipeline.runs import irrelevant

# How a run came to its end, which is nothing to tell it by.
OF_THE_COMMAND = ("resume", "train.stop_after", "sweep.retry_failed", "sweep.dry_run")


def name_all(records: Sequence[Record]) -> list[str]:
    """Give each run its name: the values of its config that are not the same in all.

    Returns:
        The keys of those values.
    """
    keys = differing(records)
    for record in records:
        config = record.config
        words = [f"{short(key)}={value_of(config[key])}" for key in keys if key in config]
        record.name = " ".join(words) or str(record.result.get("name") or record.folder.name)
    counts = Counter(record.name for record in records)
    for record in records:
        if counts[record.name] > 1:
            record.name = f"{record.name} ({record.folder})"
    return keys


def differing(records: Sequence[Record], anything: bool = False) -> list[str]:
    """The keys whose values are not the same in all configs.

    Args:
        records: some may have no config.
        anything: those, too, that a run is not named by.
    """
    configs = [config for record in records if (config := record.config)]
    keys = dict.fromkeys(key for config in configs for key in config)
    found = [key for key in keys if len({str(config.get(key)) for config in configs}) > 1]
    if anything:
        return found
    return [key for key in found if key not in OF_THE_COMMAND and not renamed(key, found)]


def renamed(key: str, differing: Sequence[str]) -> bool:
    """Whether a key differs only because its group does: `model=mlp` says it all."""
    group = f"{key.partition('.')[0]}.name"
    return key != group and group in differing


def short(key: str) -> str:
    """A key as it is typed: `model`, where the config has `model.name`."""
    return key.removesuffix(".name")


def value_of(value: object) -> str:
    """A value as it tells a run from others; of what a search drew, six digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def pairs(records: Sequence[Record]) -> list[tuple[int, int]]:
    """Runs that differ in nothing but the backend, two by two: positions, in the order of BACKENDS."""
    found: list[tuple[int, int]] = []
    for positions in alike(records, but=("backend",)):
        sides = [[p for p in positions if records[p].backend == name] for name in BACKENDS]
        sides = [side for side in sides if side]
        if len(sides) > 1:  # a command that was given twice has a run of each in two folders
            found += zip(sides[0], sides[1], strict=False)
    return sorted(found)


def alike(records: Sequence[Record], but: Sequence[str]) -> list[list[int]]:
    """Positions of runs whose configs are the same in all that matters.

    Args:
        records: those without a config are like no other.
        but: keys, or groups of keys, that may differ.
    """
    groups: dict[Hashable, list[int]] = {}
    for position, record in enumerate(records):
        if config := record.config:
            kept = tuple(
                (key, str(value))
                for key, value in sorted(config.items())
                if not irrelevant(key) and key.partition(".")[0] not in but
            )
            groups.setdefault(kept, []).append(position)
    return list(groups.values())
