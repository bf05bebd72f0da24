"""Folders of a sweep by the signatures of the runs in them, each read once while its files stay the same."""

from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path

from pipeline.storage.file_stamp import Stamp, stamp_of
from pipeline.storage.run_folder import RunFolder
from pipeline.storage.run_identity import IDENTITY, RESULT, RunIdentity
from pipeline.storage.run_result import RunResult
from pipeline.storage.signature import is_of_earlier_version, signature_with_added_keys


class RunIndex:
    """Training runs of a sweep as they are at the first question, by signature."""

    def __init__(self, sweep: Path) -> None:
        self.sweep = sweep

    def find(self, wanted: str) -> Path | None:
        """Return the first folder, by name, with the run that has this signature; None without one."""
        return self._folders.get(wanted)

    @cached_property
    def _folders(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        folders = [path for path in self.sweep.iterdir() if path.is_dir()]
        for folder in sorted(folders, reverse=True):
            found |= dict.fromkeys(signatures_in(folder), folder)
        return found


def signatures_in(folder: Path) -> frozenset[str]:
    """Return the signatures of the experiment in a folder; none if it holds no training run.

    They are the one that is stored, and of a run of an earlier version that by this one.
    """
    stored, earlier = _stored(folder, _stamp(folder / IDENTITY), _stamp(folder / RESULT))
    if stored is None or earlier is None:
        return frozenset(filter(None, [stored]))
    # Not kept: of files that it has no digests of, those of now count.
    now = signature_with_added_keys(stored, earlier.config, files_of(earlier))
    return frozenset(filter(None, (stored, now)))


@lru_cache(maxsize=1 << 16)
def _stored(
    folder: Path, *stamps: Stamp | None
) -> tuple[str | None, RunIdentity | RunResult | None]:
    """Return the stored signature of a training run, and the run itself if it is of an earlier version."""
    run = training_run_in(folder)
    if run is None:
        return None, None
    return run.signature, run if is_of_earlier_version(run.config, files_of(run)) else None


def files_of(run: RunIdentity | RunResult) -> Mapping[str, str | None] | None:
    """Return the digests of files that are stored with a run; None if there are none."""
    return run.files if isinstance(run, RunIdentity) else None


def _stamp(file: Path) -> Stamp | None:
    try:
        return stamp_of(file)
    except OSError:
        return None


def training_run_in(folder: Path) -> RunIdentity | RunResult | None:
    """Read the training run in a folder; None if there is none.

    A job that was killed early has its signature in its result only.
    """
    run = RunFolder(folder)
    for known in (run.identity, run.result):
        if known and known.config.get("mode", "train") == "train":
            return known
    return None
