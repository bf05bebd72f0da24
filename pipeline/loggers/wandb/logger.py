"""W&B run of a job, with the same keys on all backends.

The x-axis is W&B's own `_step`, passed with every row. A row then holds only our keys, and the rows of
torch and jax match.
"""

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config.loggers import WandbConfig
from pipeline.console import say_line
from pipeline.loggers import Logger, RunLabels
from pipeline.loggers.metrics_file import Row
from pipeline.loggers.wandb.artifacts import copy_into, log_artifacts, log_predictions
from pipeline.loggers.wandb.identity import SWEEP, init_arguments
from pipeline.loggers.wandb.start import end_run, start_run
from pipeline.storage.signature import flat

if TYPE_CHECKING:
    import wandb

# Called with the W&B run, its last step and its summary.
Keep = Callable[["wandb.Run", int, Mapping[str, object]], None]


class WandbLogger(Logger):
    """Logger for a W&B run, whose steps only increase.

    A resumed run repeats the steps after its checkpoint bit for bit. W&B cannot remove rows and warns
    about repeated ones, so the rows that it has are skipped. Rows of `history`, up to the checkpoint, that
    W&B lacks are logged again: W&B sends the row of a step when the next one begins, so a kill can lose it.
    The functions `keep` log artifacts and predictions of a completed run.
    """

    def __init__(
        self,
        run: "wandb.Run",
        folder: Path,
        history: Sequence[Row] = (),
        keep: Sequence[Keep] = (),
    ) -> None:
        self._run, self._folder, self._keep = run, folder, keep
        self._next = run.starting_step
        for row in history:
            self.log(row["step"], {key: value for key, value in row.items() if key != "step"})

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step >= self._next:
            self._run.log(dict(values), step=step)
            self._next = step

    def log_image(self, step: int, key: str, image: np.ndarray) -> None:
        import wandb

        self._log_media(step, key, wandb.Image(image))

    def log_table(
        self, step: int, key: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> None:
        import wandb

        table = wandb.Table(columns=list(columns), data=[list(row) for row in rows])
        self._log_media(step, key, table)

    def _log_media(self, step: int, key: str, media: object) -> None:
        if step >= self._next:
            with copy_into(self._folder):
                self._run.log({key: media}, step=step)
            self._next = step

    def finish(self, exit_code: int, summary: Mapping[str, object]) -> None:
        for keep in self._keep if exit_code == 0 else ():
            with report_errors("all that the run leaves behind"):
                keep(self._run, self._next, summary)
        with report_errors("the end of the run"):
            self._run.summary.update(flat(dict(summary)))
            # A run that a W&B sweep stops early counts with its metrics, a failed one as the worst.
            stopped = exit_code == 143 and SWEEP in os.environ
            end_run(self._run, 0 if stopped else exit_code)


@contextmanager
def report_errors(what: str, tell: Callable[[str], None] = say_line) -> Generator[None]:
    """Print an error of W&B's in one line: the run has ended, and its own files are complete."""
    try:
        yield
    except Exception as error:
        tell(f"W&B did not take {what}: {str(error).strip().partition(chr(10))[0]}")


def open_wandb(
    config: WandbConfig, folder: Path, identity: RunLabels, history: Sequence[Row] = ()
) -> WandbLogger:
    """Start or resume the W&B run of a job, without prompts.

    Unless `WANDB_MODE` is set, the run is online if the user is logged in and the server replies. An
    offline run prints the command that uploads it. W&B's files are in `folder/wandb`.

    Raises:
        UserError: `WANDB_MODE` is invalid, or it is `online` and nobody is logged in.
    """
    run = start_run(config, folder, init_arguments(identity))
    keep = [partial(what, config, folder) for what in (log_artifacts, log_predictions)]
    return WandbLogger(run, folder, history, keep)
