"""From one backend to the other, through files that both can read.

What needs another framework than the job's own is done in a short process (`pipeline.carrier`), so
that a torch job never loads jax, nor a jax job torch.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline.backends import Device
from pipeline.checkpoints import Checkpoint, checkpoint_at, checkpoints_of
from pipeline.config import Config, LoggerConfig
from pipeline.errors import UserError, failure
from pipeline.loggers.metrics_file import MetricsFile
from pipeline.parcels import SUFFIX, Parcel, read_parcel, write_parcel
from pipeline.world import World, alone

METRICS = "metrics.jsonl"


def exported(
    found: Sequence[Checkpoint], key: str, best: bool = True, scratch: Path | None = None
) -> list[Parcel]:
    """A run as its own backend reads it.

    Args:
        found: checkpoints of the run, best choice first; a broken one is named and passed over.
        key: of the configuration that asks.
        best: whether to bring the best evaluation before it, too.
        scratch: a folder for temporary files, as large as the checkpoints; None: the system's.

    Returns:
        In the order of their steps: the run at its best evaluation so far, if that is an earlier one
        whose checkpoint is still there; the run at the first checkpoint that can be read.

    Raises:
        UserError: no checkpoint can be read, or it does not fit the run's own config.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        paths = [str(checkpoint.path) for checkpoint in found]
        _carry("export", "--key", key, *(["--best"] if best else []), folder, *paths)
        return [read_parcel(path) for path in sorted(Path(folder).iterdir())]


def adopted(run: Path, parcels: Sequence[Parcel]) -> None:
    """Write parcels as checkpoints of a run, by the backend that its `run.json` names.

    Args:
        run: its folder.
        parcels: in the order of their steps.

    Raises:
        UserError: a parcel is of another model.
    """
    with tempfile.TemporaryDirectory(dir=run) as folder:
        paths = [Path(folder) / f"{place}{SUFFIX}" for place in range(len(parcels))]
        for path, parcel in zip(paths, parcels, strict=True):
            write_parcel(path, parcel)
        _carry("adopt", str(run), *map(str, paths))


def check_optimizer(parcel: Parcel, config: Config) -> None:
    """Refuse the state of another optimizer.

    Raises:
        UserError: the parcel is of a run with another one.
    """
    if parcel.state.step == 0:
        return  # there is none yet
    saved = parcel.run["config"]["optimizer"]["name"]
    if saved != config.optimizer.name:
        raise UserError(
            "optimizer",
            config.optimizer.name,
            f"{saved}, whose state {parcel.source} holds",
            "To change it, start from the weights alone: "
            f"python -m pipeline.convert {parcel.source} weights.safetensors",
        )


def carry_history(source: Path, folder: Path, step: int, loggers: LoggerConfig) -> None:
    """Copy what a run has logged up to a step, so that the curve of the one that goes on is whole.

    W&B is told again from `metrics.jsonl`.

    Args:
        source: folder of the run.
        folder: of the run that goes on.
        step: of the checkpoint.
        loggers: of the run that goes on.
    """
    names = [METRICS]
    names += [loggers.csv.file] if loggers.csv else []
    names += [loggers.tensorboard.folder] if loggers.tensorboard else []
    for name in names:
        if (source / name).is_dir():
            shutil.copytree(source / name, folder / name, dirs_exist_ok=True)
        elif (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    metrics = MetricsFile(folder / METRICS)
    metrics.rewind(step)
    metrics.finish(0, {})


def _carry(*arguments: str) -> None:
    """Run `pipeline.carrier`.

    Raises:
        UserError: as told by it.
        RuntimeError: it ended otherwise; its traceback is on stderr.
    """
    command = [sys.executable, "-P", "-m", "pipeline.carrier", *arguments]
    # What this process can import, a user's own model included.
    search = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
    environment = alone() | {"PYTHONPATH": search}
    child = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if child.returncode != 0:
        raise failure(child, command)


def brought_over(
    found: Sequence[Checkpoint],
    key: str,
    config: Config,
    folder: Path,
    device: Device,
    world: World,
) -> list[Checkpoint]:
    """Checkpoints of another backend, written anew by this one in the run's folder.

    The first process does it, in short processes of their own; all of them can read it then.
    """
    if world.first:
        going_on = key == "resume"
        parcels = exported(found, key, best=going_on, scratch=folder)
        if going_on:
            check_optimizer(parcels[-1], config)
            source = checkpoint_at(parcels[-1].source)
            carry_history(source.run, folder, source.step, config.logger)
        adopted(folder, parcels)
    device.wait_for_all()
    return checkpoints_of(folder)
