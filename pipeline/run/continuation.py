"""A run that continues in another folder: what it takes along from the run that it resumes."""

import shutil
import tempfile
from pathlib import Path

from pipeline.config.loggers import LoggerConfig
from pipeline.loggers.media_files import FOLDER as MEDIA
from pipeline.loggers.metrics_file import MetricsFile
from pipeline.run.backends import Device
from pipeline.run.experiment import Experiment
from pipeline.storage.checkpoints import Checkpoint, checkpoints_of
from pipeline.storage.run_folder import CHECKPOINTS


def carry_history(source: Path, folder: Path, step: int, loggers: LoggerConfig) -> None:
    """Copy what a run has logged up to `step` into the folder of its continuation, for a whole curve.

    W&B is logged again from `metrics.jsonl`. `loggers` are the continuation's.
    """
    names = ["metrics.jsonl", MEDIA]
    names += [loggers.csv.file] if loggers.csv else []
    names += [loggers.tensorboard.folder] if loggers.tensorboard else []
    for name in names:
        if (source / name).is_dir():
            shutil.copytree(source / name, folder / name, dirs_exist_ok=True)
        elif (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    metrics = MetricsFile(folder / "metrics.jsonl")
    metrics.rewind(step)
    metrics.finish(0, {})


def carry_best(experiment: Experiment, resumed: Checkpoint, device: Device) -> None:
    """Copy the best checkpoint so far, unless the run resumes in its own folder; the recorder knows its step.

    All processes call this; the first one copies.
    """
    best, folder = experiment.recorder.best, experiment.folder
    if best is None or resumed.run.resolve() == folder.resolve():
        return
    if device.world.is_main:
        (folder / CHECKPOINTS).mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            for found in checkpoints_of(resumed.run):
                if found.step == best.step:
                    copy = shutil.copytree if found.path.is_dir() else shutil.copyfile
                    copied = Path(copy(found.path, Path(scratch) / found.path.name))
                    copied.replace(folder / CHECKPOINTS / found.path.name)
    device.wait_for_all()
