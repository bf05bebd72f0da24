"""Loggers: destinations of metrics, one per module."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # loads what the command line does not need
    import numpy as np


class Logger:
    """Destination of metrics. The base class does nothing; a logger overrides what it needs."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record `values` at `step`; several calls for one step are merged into one row."""

    def log_image(self, step: int, key: str, image: "np.ndarray") -> None:
        """Record a picture at `step`: uint8 `[height, width, channels]`, of 1, 3 or 4 channels."""

    def log_table(
        self, step: int, key: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> None:
        """Record a table at `step`."""

    def rewind(self, step: int) -> None:
        """Drop the rows after `step`: the run resumes from a checkpoint there."""

    def finish(self, exit_code: int, summary: Mapping[str, object]) -> None:
        """Record the end of the run and close files and connections."""


@dataclass(frozen=True)
class RunLabels:
    """Names and labels of a run for loggers that show many runs together.

    Attributes:
        group: name of the sweep; None for a single run.
        job: displayed name, such as `jax-cnn-seed1`.
        run_id: id of the W&B run, unchanged when the run resumes.
        tags: the user's tags; W&B also gets backend, model and data set.
        config: the composed config, as nested dictionaries.
        setting: overrides that differ between the jobs of the sweep, without backend, seed and fold.
    """

    group: str | None
    job: str
    run_id: str
    tags: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    setting: str = ""
