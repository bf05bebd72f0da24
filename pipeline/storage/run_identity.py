"""`run.json`: the identity of a run; a folder with this file is a run folder."""

import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:  # loads NumPy, which the command line does not need
    from pipeline.data.data_spec import DataSpec

IDENTITY = "run.json"
RESULT = "result.json"


@dataclass(frozen=True)
class ProcessIdentity:
    """A process by its machine and its id there, stored so that others can tell if it still runs."""

    host: str | None = None
    process: int | None = None

    @classmethod
    def current(cls) -> Self:
        """Return the identity of this process."""
        return cls(platform.node(), os.getpid())

    @property
    def is_running_elsewhere(self) -> bool:
        """True if it is another process of this machine and still runs."""
        if self.host != platform.node() or self.process in (None, os.getpid()):
            return False
        command = Path(f"/proc/{self.process}/cmdline")
        text = command.read_text(errors="replace") if command.exists() else ""
        return re.search(r"run\.py|\btandem\x00run\b", text) is not None

    def to_json(self) -> dict[str, object]:
        """Return plain containers."""
        return {"host": self.host, "process": self.process}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Rebuild from what `to_json` returned; missing entries are None."""
        return cls(content.get("host"), content.get("process"))


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """Identity of a run."""

    signature: str | None = None
    # Before it was resumed with other keys, or in another folder.
    earlier_signatures: Sequence[str] = ()
    wandb_id: str | None = None  # the same after each resume
    process: ProcessIdentity = ProcessIdentity()  # that started the run
    slurm_job: str | None = None  # of that process, if Slurm started it
    config: Mapping[str, Any] = field(default_factory=dict)
    # Digests of the files whose content counts, by the keys that name them; None in runs of earlier versions.
    files: Mapping[str, str | None] | None = None
    data: "DataSpec | None" = None  # None before the data set is loaded
    extra: Mapping[str, object] = field(default_factory=dict)  # entries of a newer version

    @property
    def backend(self) -> str | None:
        """Name of the backend."""
        return (self.config.get("backend") or {}).get("name")

    def to_json(self) -> dict[str, Any]:
        """Return plain containers, without unknown entries."""
        known: dict[str, object] = {"signature": self.signature, "wandb_id": self.wandb_id}
        known |= {"earlier_signatures": self.earlier_signatures} if self.earlier_signatures else {}
        known |= self.process.to_json() | {"slurm_job": self.slurm_job, "config": self.config}
        known |= {} if self.files is None else {"files": self.files}
        return known | ({"data": self.data} if self.data else {}) | dict(self.extra)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Rebuild from what `to_json` returned; missing entries get defaults."""
        own = {"signature": str, "wandb_id": str, "slurm_job": str, "config": dict, "data": dict}
        own |= {"earlier_signatures": list, "files": dict}
        known = {name: content[name] for name in own if isinstance(content.get(name), own[name])}
        extra = {key: content[key] for key in content if key not in {*own, "host", "process"}}
        return cls(**known, process=ProcessIdentity.from_json(content), extra=extra)
