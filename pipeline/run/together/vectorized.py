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
from pipeline.storage.checkpoints import checkpoints_of
from pipeline.storage.run_folder import RunFolder
from pipeline.storage.run_result import RunResult
from pipeline.user_code import is_out_of_memory, shortened


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
            return _run_one_by_one(members, sweep, world)
        alike = alike or prepared
        _write_hydra(member)
        runs.append((own, prepared))
    if alike is None:
        return 0
    progress = SharedProgress(alike.total, f"{alike.config.backend.name} × {len(runs)}")
    for own, prepared in runs:
        shown = MemberProgress(progress, own.job.name, own.job.folder)
        try:
            own.started = begin(prepared, own.stopwatch, own.is_new, stop_signal, shown)
        except Exception as error:
            _end(own, refused(own.config, own.job, own.stopwatch, error))
    with stop_signal, progress:
        code, parting = _train_and_test([own for own, _ in runs if own.started], alike)
    return max(code, _run_parted(parting, sweep, world)) if parting else code


@dataclass(frozen=True)
class _Parting:
    """Runs that cannot go on at once, and the error that says why."""

    members: Sequence[Member]
    reason: str
    is_out_of_memory: bool


def _run_parted(parting: _Parting, sweep: str | None, world: World) -> int:
    """Run each half at once if the memory is too small for all, else one by one; each run goes on."""
    gc.collect()  # the error keeps the states of all runs alive, in a cycle
    members = [_continued(member) for member in parting.members]
    middle = len(members) // 2
    if not parting.is_out_of_memory or middle == 1:
        say_line(f"{len(members)} jobs run one by one: {parting.reason}")
        return _run_one_by_one(members, sweep, world)
    say_line(f"{len(members)} jobs train in two parts: {parting.reason}")
    for part in (members[:middle], members[middle:]):
        if code := run_vectorized(part, sweep, world):
            return code
    return 0


def _continued(member: Member) -> Member:
    """Return a member that goes on from its checkpoints, if there are any."""
    if not checkpoints_of(member.folder):
        return member
    return replace(member, config=replace(member.config, resume=str(member.folder)))


def _train_and_test(runs: Sequence[_Run], alike: Prepared) -> tuple[int, _Parting | None]:
    """Train the started runs, and end each, unless they must go on in another way."""
    parting = None
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
            parting = _Parting(members, shortened(error), is_out_of_memory(error))
    found |= zip(going, trained, strict=True)
    codes = [0]
    for number, own in enumerate(runs):
        assert own.started
        if parting and number in going:
            own.started.leave()
            continue
        ending = own.started.conclude(partial(_after_training, found[number], len(runs)))
        _end(own, ending)
        if ending.failure is None:
            codes.append(ending.exit_code)
    return max(codes), parting


def _after_training(
    found: Exception | Test,
    count: int,
    experiment: Experiment,
    prepared: Prepared,
    result: RunResult,
) -> RunResult:
    """Test a run that has trained with others; raise what ended its training before the last step."""
    if isinstance(found, Exception):
        raise found
    experiment.recorder.stopwatch.proceed()
    return test_trained(experiment, prepared, replace(result, vectorized=count), found)


def _end(own: _Run, ending: Ending) -> None:
    """Write the result of a run, and print how it ended."""
    write_ending(ending, own.job, own.is_new)
    if ending.failure:
        _note_failure(own.job, own.config, ending.failure)
    result = ending.result
    values = [f"{key} {format_number(value)}" for key, value in result.test.items()]
    words = [own.job.name, result.status, *values]
    if result.status != "failed":  # the sweep prints the error
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


def _run_one_by_one(members: Sequence[Member], sweep: str | None, world: World) -> int:
    for member in members:
        job = Job(member.folder, member.name, sweep, member.setting)
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
