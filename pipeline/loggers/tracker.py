"""Tracker of metrics: a backend reports `(step, {key: value})`, and all loggers record it."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from pipeline.config.experiment import Config
from pipeline.loggers import Logger, RunLabels
from pipeline.loggers.csv import CsvLogger
from pipeline.loggers.media_files import MediaFiles, check_key, to_pixels
from pipeline.loggers.metrics_file import MetricsFile, read_metrics
from pipeline.loggers.tensorboard import TensorboardLogger
from pipeline.loggers.wandb.logger import open_wandb

log = logging.getLogger(__name__)


class Tracker:
    """Passes metrics on to all loggers, and keeps the last value of each key in `last`.

    `file` is metrics.jsonl, the complete record of the run; None in a process that writes nothing.
    """

    def __init__(self, file: MetricsFile | None = None, loggers: Sequence[Logger] = ()) -> None:
        self._file = file
        self._loggers = [file, *loggers] if file else [*loggers]
        self._recall()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record `values` at `step`, the number of optimizer updates so far.

        `float` must accept each value, such as a NumPy scalar or an array of one element.

        Raises:
            ValueError: `step` is below that of the last call, or a key is named `step`.
        """
        if step < self._step:
            raise ValueError(
                f"step {step} after step {self._step}: steps must not decrease; call rewind() first."
            )
        if "step" in values:
            raise ValueError("'step' is reserved; choose another metric name.")
        values = {key: float(value) for key, value in values.items()}
        for logger in self._loggers:
            logger.log(step, values)
        self.last |= values
        self._step = step

    def log_image(self, step: int, key: str, image: np.ndarray) -> None:
        """Record a picture at `step`: `[height, width]`, or with a last axis of 1, 3 or 4 channels.

        Its pixels are uint8, or numbers in [0, 1].

        Raises:
            ValueError: it is no such picture, `key` is no name of a file, or `step` is below that of the
                last call.
        """
        self._check(step, key)
        pixels = to_pixels(image)
        for logger in self._loggers:
            logger.log_image(step, key, pixels)

    def log_table(
        self, step: int, key: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
    ) -> None:
        """Record a table at `step`; a row has a text or number for each column.

        Raises:
            ValueError: the number of columns differs, `key` is no name of a file, or `step` is below that of
                the last call.
        """
        self._check(step, key)
        for row in rows:
            if len(row) != len(columns):
                raise ValueError(
                    f"a row has {len(row)} values, and there are {len(columns)} columns."
                )
        for logger in self._loggers:
            logger.log_table(step, key, columns, rows)

    def _check(self, step: int, key: str) -> None:
        check_key(key)
        if step < self._step:
            raise ValueError(f"step {step} after step {self._step}: steps must not decrease.")

    def rewind(self, step: int) -> None:
        """Drop the rows after `step`: the run resumes from a checkpoint there."""
        for logger in self._loggers:
            logger.rewind(step)
        self._recall()

    def check_reaches(self, step: int) -> None:
        """Warn if metrics.jsonl ends before `step`, the last logged step of the checkpoint."""
        if self._file and self._step < step:
            log.warning("%s lacks steps %d to %d.", self._file.path, self._step + 1, step)

    def finish(self, exit_code: int, summary: Mapping[str, object]) -> None:
        """Close every logger, even if one fails.

        `summary` holds results of the whole run, such as `{"best": {"value": 0.98}}`.
        """
        with ExitStack() as stack:
            for logger in reversed(self._loggers):
                stack.callback(logger.finish, exit_code, summary)

    def _recall(self) -> None:
        rows = read_metrics(self._file.path) if self._file else []
        self.last: dict[str, float] = {key: value for row in rows for key, value in row.items()}
        self._step = self.last.pop("step", 0)


def open_tracker(
    config: Config, folder: Path, identity: RunLabels, resumed_from: int | None
) -> Tracker:
    """Open the tracker of the run in `folder`, with the loggers that `config.logger` selects.

    `resumed_from` is the step of the checkpoint that the run resumes from: the loggers continue from
    there and drop later rows. None starts a new run and drops all rows of an earlier attempt.
    """
    step = -1 if resumed_from is None else resumed_from
    file = MetricsFile(folder / "metrics.jsonl")
    file.rewind(step)
    history, wanted = read_metrics(file.path), config.logger
    media = MediaFiles(folder)
    media.rewind(step)
    loggers: list[Logger] = [media]
    if wanted.csv is not None:
        loggers.append(table := CsvLogger(folder / wanted.csv.file))
        table.rewind(step, history)
    if wanted.tensorboard is not None:
        loggers.append(events := TensorboardLogger(folder / wanted.tensorboard.folder))
        events.rewind(step)
    if wanted.wandb is not None:
        loggers.append(open_wandb(wanted.wandb, folder, identity, history))
    return Tracker(file, loggers)
