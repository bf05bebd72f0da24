"""A job's run in W&B: the same keys on all backends.

The axis is W&B's own `_step`, given explicitly with every row, so a row holds our keys and nothing
else, and rows of torch and jax match.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import WandbConfig
from pipeline.loggers import Identity, Logger
from pipeline.loggers.metrics_file import Row
from pipeline.loggers.wandb.artifacts import log_artifacts
from pipeline.loggers.wandb.identity import SWEEP, who
from pipeline.loggers.wandb.predictions import log_predictions
from pipeline.loggers.wandb.start import start_run
from pipeline.runs import flat
from pipeline.terminal import say_line

if TYPE_CHECKING:
    import wandb

Keep = Callable[["wandb.Run", int, Mapping[str, object]], None]


class WandbLogger(Logger):
    """Logs into `run`, which only goes forward.

    A resumed run repeats, bit for bit, what it did between its checkpoint and its end. W&B cannot
    take rows back and warns at each one that comes again, so those that it has are left out.

    Args:
        run: a W&B run that was just started or resumed.
        history: the rows up to the checkpoint. Those that W&B lacks are logged again: the row of
            the last step reaches W&B only when the next one begins, so a kill can lose it.
        keep: hands over what a completed run leaves behind, given the run, its last step and its
            summary.
    """

    def __init__(
        self, run: "wandb.Run", history: Sequence[Row] = (), keep: Sequence[Keep] = ()
    ) -> None:
        import wandb

        self._wandb = wandb
        self._run = run
        self._keep = keep
        self._next = run.starting_step
        for row in history:
            self.log(row["step"], {key: value for key, value in row.items() if key != "step"})

    def log(self, step: int, values: Mapping[str, float]) -> None:
        if step >= self._next:
            self._run.log(dict(values), step=step)
            self._next = step

    def finish(self, exit_code: int, summary: Mapping[str, object]) -> None:
        for keep in self._keep if exit_code == 0 else ():
            with harmless("all that the run leaves behind"):
                keep(self._run, self._next, summary)
        with harmless("the end of the run"):
            self._run.summary.update(flat(dict(summary)))
            # What a sweep of W&B's stops early counts with what it had reached; failed, as the worst.
            stopped = exit_code == 143 and SWEEP in os.environ
            self._run.finish(exit_code=0 if stopped else exit_code)
            # finish() can return before W&B's service has written the end of an offline file.
            self._wandb.teardown()


@contextmanager
def harmless(what: str, tell: Callable[[str], None] = say_line) -> Iterator[None]:
    """Tell an error in a line: the run is done, its own files are whole, whatever W&B makes of it."""
    try:
        yield
    except Exception as error:
        tell(f"W&B did not take {what}: {str(error).strip().partition(chr(10))[0]}")


def open_wandb(
    config: WandbConfig, folder: Path, identity: Identity, history: Sequence[Row] = ()
) -> WandbLogger:
    """Start, or go on with, the W&B run of a job. Never asks anything on the terminal.

    Online if somebody is logged in and the server answers, else offline with a line that says how
    to upload; `WANDB_MODE` decides first. W&B's files lie in `folder/wandb`.

    Raises:
        UserError: `WANDB_MODE` is unknown, or `online` while nobody is logged in.
    """
    run = start_run(config, folder, who(identity))
    keep = [
        partial(what, config=config, folder=folder) for what in (log_artifacts, log_predictions)
    ]
    return WandbLogger(run, history, keep)
