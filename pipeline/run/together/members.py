"""The runs that train at once in a process, as the sweep hands them over to it."""

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.experiment import Config


@dataclass(frozen=True)
class Member:
    """One of several runs that train at once.

    `name` and `setting` are those of `Job`; `overrides` are its own, for `.hydra/overrides.yaml`.
    """

    config: Config
    folder: Path
    name: str
    setting: str
    overrides: tuple[str, ...]


def write_members(members: Sequence[Member], file: Path) -> None:
    """Write them to a file for a child process, of this version of the program."""
    file.write_bytes(pickle.dumps(list(members)))


def read_members(file: Path) -> list[Member]:
    """Read them, and remove the file."""
    members = pickle.loads(file.read_bytes())
    file.unlink()
    return members
