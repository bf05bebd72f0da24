"""Where metrics go: a backend reports `(step, {key: value})`, the tracker tells every logger."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from pipeline.config import Config
from pipeline.loggers import Identity, Logger
from pipeline.loggers.csv import CsvLogger
from pipeline.loggers.metrics_file import MetricsFile, last_values, read_metrics
from pipeline.loggers.tensorboard import TensorboardLogger
from pipeline.loggers.wandb import open_wandb

__all__ = ["Identity", "Logger", "Tracker", "open_tracker"]


class Tracker:
    """One fan-out for metrics.

    Args:
        file: metrics.jsonl, the record of the run from which everything else can be told; None in a
            process that writes nothing.
        loggers: the others.

    Attributes:
        last: the last value of each key.
    """

    def __init__(self, file: MetricsFile | None = None, loggers: Sequence[Logger] = ()) -> None:
        self._file = file
        self._loggers = [file, *loggers] if file else [*loggers]
        self._recall()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Record `values` at `step`, the number of optimizer updates so far.

        Anything that `float` takes is a value: a NumPy scalar or an array of one element too.

        Raises:
            ValueError: `step` is below that of the last call, or a key is called `step`.
        """
        if step < self._step:
            raise ValueError(f"step {step} after step {self._step}: steps only fall by rewind().")
        if "step" in values:
            raise ValueError("'step' is the axis of all keys and not itself a key.")
        values = {key: float(value) for key, value in values.items()}
        for logger in self._loggers:
            logger.log(step, values)
        self.last |= values
        self._step = step

    def rewind(self, step: int) -> None:
        """Forget what came after `step`: the run goes on from a checkpoint there."""
        for logger in self._loggers:
            logger.rewind(step)
        self._recall()

    def finish(self, exit_code: int, summary: Mapping[str, object]) -> None:
        """Close every logger, even if one fails to.

        Args:
            exit_code: 0 if the run completed, else the code that the process will end with.
            summary: what to show of the run as a whole, such as `{"best": {"value": 0.98}}`.
        """
        with ExitStack() as stack:
            for logger in reversed(self._loggers):
                stack.callback(logger.finish, exit_code, summary)

    def _recall(self) -> None:
        rows = read_metrics(self._file.path) if self._file else []
        self.last = last_values(rows)
        self._step = rows[-1]["step"] if rows else 0


def open_tracker(
    config: Config, folder: Path, identity: Identity, resumed_from: int | None
) -> Tracker:
    """The tracker of the run in `folder`, with the loggers that `config.logger` switches on.

    Args:
        config: the experiment.
        folder: the run's folder.
        identity: who the run is, for W&B.
        resumed_from: the step of the checkpoint that the run goes on from: files and W&B run are
            gone on with, without what they hold after it. None: the run starts anew, and what an
            earlier attempt left in the files is dropped.
    """
    step = -1 if resumed_from is None else resumed_from
    file = MetricsFile(folder / "metrics.jsonl")
    file.rewind(step)
    loggers: list[Logger] = []
    if config.logger.csv is not None:
        loggers.append(CsvLogger(folder / config.logger.csv.file))
    if config.logger.tensorboard is not None:
        loggers.append(TensorboardLogger(folder / config.logger.tensorboard.folder))
    for logger in loggers:
        logger.rewind(step)
    if config.logger.wandb is not None:
        history = read_metrics(file.path)
        loggers.append(open_wandb(config.logger.wandb, folder, identity, history))
    return Tracker(file, loggers)
