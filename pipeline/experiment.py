"""One experiment from its config to its result: what every job does, on either backend."""

import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import backends, datasets
from pipeline.announce import announce, announce_result
from pipeline.checkpoints import (
    Checkpoint,
    candidates,
    checkpoint_at,
    checkpoints_of,
    run_of,
    tested_checkpoint,
)
from pipeline.config import Config, Mode, plain
from pipeline.crossing import brought_over
from pipeline.errors import Interrupted, UserError
from pipeline.failures import in_words
from pipeline.final_test import best_checkpoint, tested
from pipeline.hardware import bound_threads, hardware
from pipeline.interruption import Interruption
from pipeline.look import Look, look
from pipeline.metrics import MONITOR
from pipeline.models import check_model
from pipeline.observer import Observer
from pipeline.outline import outline
from pipeline.plan import DataPlan, data_plan
from pipeline.plateau import plateau
from pipeline.predictions import FILE as PREDICTIONS
from pipeline.predictions import predictions_of
from pipeline.progress import Progress, Silence
from pipeline.recorder import Recorder
from pipeline.runs import RunFolder, signature, summary
from pipeline.schedules import schedule
from pipeline.timetable import timetable
from pipeline.tracker import Identity, Tracker, open_tracker
from pipeline.world import ALONE, World

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """Where a run stands.

    Args:
        folder: of the run.
        name: what people call it.
        group: the sweep that it belongs to, if any.
        setting: what tells it from the other jobs of the sweep, backend and seed apart.
    """

    folder: Path
    name: str
    group: str | None = None
    setting: str = ""


@dataclass(frozen=True)
class Experiment:
    """Everything that a backend needs to train.

    Args:
        config: typed.
        plan: the data and the batches drawn from them.
        recorder: what happens around a step.
        folder: of the run.
        resume: checkpoints to try to go on from, best choice first; empty to start from scratch.
    """

    config: Config
    plan: DataPlan
    recorder: Recorder
    folder: Path
    resume: list[Checkpoint] = field(default_factory=list)


def assemble(
    config: Config, plan: DataPlan, folder: Path, resume: Sequence[Checkpoint] = (), **around: Any
) -> Experiment:
    """An experiment from its config and data.

    Args:
        config: typed.
        plan: the data and the batches drawn from them.
        folder: of the run.
        resume: see `Experiment`.
        around: `tracker`, `progress`, `interruption`, `observer` and `started` of the recorder.
    """
    times = timetable(config.train, len(plan.data.train))
    recorder = Recorder(
        config=config,
        data=plan.data,
        timetable=times,
        schedule=schedule(config.schedule, times.total),
        plateau=plateau(config.schedule, config.optimizer, MONITOR[plan.data.task][1]),
        **around,
    )
    return Experiment(config, plan, recorder, folder, list(resume))


def run(config: Config, job: Job, world: World = ALONE) -> int:
    """Train and test, or only test, or look; write `result.json` whatever happens.

    Of several processes each does its share of the work, and the first alone writes.

    Returns:
        The exit code: 0 done, 1 failed, 130 or 143 interrupted.

    Raises:
        UserError: bad input; the result file says so too.
        RunFailed: the loss is no number.
    """
    started = time.perf_counter()
    folder = RunFolder(job.folder)
    if world.first:
        refuse_a_second_run(config, job.folder)
        folder.identify(config)
        (job.folder / PREDICTIONS).unlink(missing_ok=True)  # of the part before an interruption
    outcome: dict[str, Any] = {
        "status": "failed",
        "error": None,
        "signature": signature(config),
        "name": job.name,
        "backend": config.backend.name,
        "config": plain(config),
        "hardware": hardware(),
    }
    failure: Exception | None = None
    try:
        code = _run(config, job, folder, outcome, world, started)
    except Exception as error:
        failure, code = in_words(error, job.folder), 1
        outcome["status"], outcome["error"] = "failed", str(failure)
    outcome.setdefault("seconds", {}).setdefault("total", time.perf_counter() - started)
    if world.first:
        with suppress(OSError) if failure else nullcontext():  # a full disk has already been told
            folder.write_result(outcome)
    if failure:
        raise failure
    if world.first:
        announce_result(outcome, str(job.folder))
    return code


def refuse_a_second_run(config: Config, folder: Path) -> None:
    """Never write over the checkpoints of another run, nor among those of another backend.

    Raises:
        UserError: the folder holds some, and they are not gone on from.
    """
    found = checkpoints_of(folder)
    own = found and config.resume and found[0].backend == config.backend.name
    if own and run_of(Path(config.resume), "resume").resolve() == folder.resolve():
        return
    if found:
        raise UserError(
            "name" if config.name else "hydra.run.dir",
            config.name or folder,
            f"another one: {folder} holds a run already",
            "Go on with that run by resume=auto, or choose another name.",
        )


def _run(
    config: Config,
    job: Job,
    folder: RunFolder,
    outcome: dict[str, Any],
    world: World,
    started: float,
) -> int:
    """The part of `run` that can fail; fills `outcome` as it goes."""
    data = datasets.load(config.dataset)
    if world.first:
        folder.describe(outline(data))
    check_model(config, data)
    plan = data_plan(config, data)
    times = timetable(config.train, len(data.train))
    bound_threads(config.accelerator.threads, world)
    backend = backends.load(config.backend.name)
    device = backend.prepare(config, world)
    if world.first:
        announce(config, str(job.folder), device.description)
    outcome["versions"] = backend.versions()
    outcome["devices"] = device.description
    outcome["device_count"] = device.devices
    resume = candidates(Path(config.resume), "resume") if config.resume else []
    if resume and resume[0].backend != config.backend.name:
        outcome["resumed_from"] = str(resume[0].path)
        resume = brought_over(resume, "resume", config, job.folder, device, world)
    identity = Identity(
        group=job.group,
        job=job.name,
        run_id=folder.wandb_id(),
        tags=tuple(config.tags),
        config=plain(config),
        setting=job.setting,
    )
    tracker = Tracker()
    if world.first:
        tracker = open_tracker(config, job.folder, identity, resume[0].step if resume else None)
    progress = Progress(times.total, config.backend.name) if world.first else Silence()
    looking, code = config.mode is Mode.look, 1
    with Interruption() as interruption, progress:
        experiment = assemble(
            config,
            plan,
            job.folder,
            resume,
            tracker=tracker,
            progress=progress,
            interruption=interruption,
            observer=Look(times, config.train.batch_size) if looking else Observer(),
            started=started,
        )
        recorder = experiment.recorder
        recorder.seconds["setup"] += time.perf_counter() - started
        try:
            if looking:
                outcome["look"] = str(look(backend, experiment, device))
                outcome["status"], code = "completed", 0
                return code
            if config.mode is Mode.train:
                backend.train(experiment, device)
                device.wait_for_all()  # until the first has written the last checkpoint
                outcome["best"] = best_checkpoint(recorder, job.folder)
                chosen = checkpoint_at(Path(outcome["best"]["checkpoint"]))
            else:
                chosen = tested_checkpoint(Path(config.checkpoint), "checkpoint")
            recorder.pause()
            sums, said = tested(backend, experiment, device, chosen, world)
            recorder.resume("eval")
            outcome["test"] = recorder.tested(chosen.step, sums)
            if said is not None and world.first:
                predictions_of(data.test, said, data.classes).write(job.folder)
            outcome["status"], code = "completed", 0
        except Interrupted as interrupted:
            if world.first:
                way_on = f"{interrupted}; go on with: python run.py resume={job.folder}"
                log.warning("interrupted" if looking else way_on)
            outcome["status"], code = "interrupted", interrupted.exit_code
            outcome["interrupted_by"] = interruption.name
        finally:
            outcome |= recorder.outcome()
            outcome["seconds"]["total"] = time.perf_counter() - started
            tracker.finish(code, summary({"best": recorder.best} | outcome))
    return code
