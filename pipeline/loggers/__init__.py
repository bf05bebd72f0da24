"""What a logger is: one place where metrics go. Each file beside this one is one such place."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class Logger:
    """One place where metrics go. The base does nothing: a logger overrides what it needs."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record `values` at `step`; several calls for one step add up to one row."""

    def rewind(self, step: int) -> None:
        """Forget what was recorded after `step`: the run goes on from a checkpoint there."""

    def finish(self, exit_code: int, summary: Mapping[str, object]) -> None:
        """Record the end of the run and let go of files and connections."""


@dataclass(frozen=True)
class Identity:
    """Who a run is, for those who show many runs side by side.

    Attributes:
        group: name of the sweep, or None for a single run.
        job: name to show, such as `jax-cnn-seed1`.
        run_id: W&B's id of the run; the same whenever the run is started again.
        tags: the user's own labels; W&B shows backend, model and data set beside them.
        config: the configuration as composed, as plain nested containers.
        setting: what tells the run from the others of its sweep, backend and seed apart.
    """

    group: str | None
    job: str
    run_id: str
    tags: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    setting: str = ""
