"""Several runs in one process that train at once, each with its own folder, loggers and result."""

import gc
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, partial

from omegaconf import OmegaConf
from rich.markup import escape

from pipeline.config.experiment import Config, plain
from pipeline.console import print_and_log, say_line
from pipeline.devices.stop_signals import StopSignal
from pipeline.devices.world import World
from pipeline.formatting import format_number
from pipeline.loggers.shared_progress import MemberProgress, SharedProgress
from pipeline.run.backends import Test
from pipeline.run.experiment import Experiment, Job
from pipeline.run.modes import test_trained
from pipeline.run.prepared import Prepared, prepare
from pipeline.run.recording.stopwatch import Stopwatch
from pipeline.run.resume import check_folder_is_free
from pipeline.run.runner import refused, run, write_ending
from pipeline.run.started import Ending, StartedRun, begin, initial_result
from pipeline.run.together.members import Member
from pipeline.run.together.own_draws import TrainsAlone
from pipeline.storage.checkpoints import checkpoints_of
from pipeline.storage.run_folder import RunFolder
from pipeline.storage.run_result import RunResult
from pipeline.user_code import is_out_of_memory, shortened

OUT_OF_MEMORY = "the memory is too small for what it does beside the others"


@dataclass
class _Run:
    """A member on its way; it is not started if it is refused."""

    member: Member
    job: Job
    config: Config
    is_new: bool
    stopwatch: Stopwatch
    started: StartedRun | None = None


def run_vectorized(members: Sequence[Member], sweep: str | None, world: World) -> int:
    """Train all members at once, then test each; write each `result.json`.

    If the data does not allow that, they run one by one. An error of one is written to its result, and does
    not disturb the others.

    Returns:
        The exit code: 0 unless they were interrupted.
    """
    runs, alike = [], None
    stop_signal = StopSignal()
    for member in members:
        own = _Run(
            member,
            Job(member.folder, member.name, sweep, member.setting),
            member.config,
            RunFolder(member.folder).identity is None,
            Stopwatch(),
        )
        try:
            check_folder_is_free(own.config, member.folder)
            prepared = prepare(own.config, own.job, world, alike)
        except Exception as error:
            _end(own, refused(own.config, own.job, own.stopwatch, error))
            continue
        if prepared is None:
            continue
        if alike is None and (reason := _obstacle(prepared)):
            say_line(f"{len(members)} jobs run one by one: {reason}")
            return _run_one_by_one(members, sweep, world, reason)
        alike = alike or prepared
        _write_hydra(member)
        runs.append((own, prepared))
    if alike is None:
        return 0
    progress = SharedProgress(alike.total, f"{alike.config.backend.name} × {len(runs)}", len(runs))
    for own, prepared in runs:
        shown = MemberProgress(progress, own.job.name, own.job.folder)
        try:
            own.started = begin(prepared, own.stopwatch, own.is_new, stop_signal, shown)
        except Exception as error:
            _end(own, refused(own.config, own.job, own.stopwatch, error))
    with stop_signal, progress:
        code, parted = _train_and_test([own for own, _ in runs if own.started], alike)
    for parting in parted:
        code = code or _run_parted(parting, sweep, world)
    return code


@dataclass(frozen=True)
class _Parting:
    """Runs that cannot go on at once, and the error that says why."""

    members: Sequence[Member]
    reason: str
    has_halves: bool = False  # each half may go on at once


def _run_parted(parting: _Parting, sweep: str | None, world: World) -> int:
    """Run each half at once if the memory is too small for all, else one by one; each run goes on."""
    members = [_continued(member) for member in parting.members]
    middle = len(members) // 2
    if not parting.has_halves or middle < 2:
        how = "1 job runs alone" if len(members) == 1 else f"{len(members)} jobs run one by one"
        say_line(f"{how}: {parting.reason}")
        return _run_one_by_one(members, sweep, world, parting.reason)
    say_line(f"{len(members)} jobs train in two parts: {parting.reason}")
    for part in (members[:middle], members[middle:]):
        gc.collect()  # the states of all runs before, which an error or a loop keeps alive in a cycle
        if code := run_vectorized(part, sweep, world):
            return code
    return 0


def _continued(member: Member) -> Member:
    """Return a member that goes on from its checkpoints, if there are any."""
    if not checkpoints_of(member.folder):
        return member
    return replace(member, config=replace(member.config, resume=str(member.folder)))


def _train_and_test(runs: Sequence[_Run], alike: Prepared) -> tuple[int, list[_Parting]]:
    """Train the started runs, and end each, unless they must go on in another way."""
    parted: list[_Parting] = []
    found: dict[int, Exception | Test] = {}
    for number, own in enumerate(runs):
        try:
            assert own.started
            own.started.open()
        except Exception as error:
            found[number] = error
    going = [number for number in range(len(runs)) if number not in found]
    experiments = [own.started.experiment for own in runs if own.started]
    try:
        trained = alike.backend.train_together([experiments[n] for n in going], alike.device)
    except Exception as error:  # of all: a model that cannot be mapped, or too little memory
        trained = [error] * len(going)
        if len(going) > 1:
            members = [runs[number].member for number in going]
            reason = str(error) if isinstance(error, TrainsAlone) else shortened(error)
            parted.append(_Parting(members, reason, has_halves=is_out_of_memory(error)))
    found |= zip(going, trained, strict=True)
    codes, short = [0], []
    for number, own in enumerate(runs):
        assert own.started
        if parted and number in going:
            own.started.leave()
            continue
        work = partial(_after_training, found[number])
        ending = own.started.conclude(work, tell=lambda hint: None)  # `_end` does
        if len(runs) > 1 and ending.failure and is_out_of_memory(ending.failure):
            short.append(own.member)  # the others keep their states until all are tested
            continue
        _end(own, ending)
        if ending.failure is None:
            codes.append(ending.exit_code)
    return max(codes), [*parted, _Parting(short, OUT_OF_MEMORY)] if short else parted


def _after_training(
    found: Exception | Test,
    experiment: Experiment,
    prepared: Prepared,
    result: RunResult,
) -> RunResult:
    """Test a run that has trained with others; raise what ended its training before the last step."""
    if isinstance(found, Exception):
        raise found
    experiment.recorder.stopwatch.proceed()
    return test_trained(experiment, prepared, result, found)


def _end(own: _Run, ending: Ending) -> None:
    """Write the result of a run, and print how it ended."""
    write_ending(ending, own.job, own.is_new)
    if ending.failure:
        _note_failure(own.job, own.config, ending.failure)
    result = ending.result
    values = [f"{key} {format_number(value)}" for key, value in result.test.items()]
    words = [own.job.name, result.status, *values]
    if result.status == "interrupted" and own.started:
        text = f"interrupted at step {result.steps}; the same command resumes it"
        own.started.experiment.recorder.progress.message(text)
    elif result.status != "failed":  # the sweep prints the error
        text = f"{'  '.join(words)}  →  {own.job.folder}"
        print_and_log(escape(text), soft_wrap=True)


def _note_failure(job: Job, config: Config, failure: Exception) -> None:
    """Write the result of a run that has none, since it began with others; print what no result has."""
    folder = RunFolder(job.folder)
    if folder.result is None:
        folder.write_result(replace(initial_result(config, job), error=str(failure)))
    elif folder.result.status != "failed":  # else the sweep prints it
        say_line(f"{job.name} failed: {failure}")


def _obstacle(prepared: Prepared) -> str | None:
    """Return why runs on this data cannot train at once, as a clause; None if they can."""
    if prepared.plan.data.train.stored:
        return f"dataset={prepared.config.dataset.name} is decoded for each run while it trains"
    if prepared.callbacks.native:
        path, _ = prepared.callbacks.native[0]
        return f"callbacks={path} is called by the loop of a single run"
    return None


def _run_one_by_one(members: Sequence[Member], sweep: str | None, world: World, reason: str) -> int:
    for member in members:
        gc.collect()
        job = Job(member.folder, member.name, sweep, member.setting, alone=reason)
        try:
            code = run(member.config, job, world)
        except Exception as error:
            _note_failure(job, member.config, error)
            continue
        if code:
            return code
    return 0


@cache  # most groups are those of the member before
def _as_yaml(group: str) -> str:
    return OmegaConf.to_yaml(OmegaConf.create(json.loads(group)))


def _write_hydra(member: Member) -> None:
    """Write the config as composed and the overrides, as Hydra does for a single run."""
    folder = member.folder / ".hydra"
    folder.mkdir(parents=True, exist_ok=True)
    keys = plain(member.config).items()
    text = "".join(_as_yaml(json.dumps({key: value})) for key, value in keys)
    (folder / "config.yaml").write_text(text)
    OmegaConf.save(list(member.overrides), folder / "overrides.yaml")
