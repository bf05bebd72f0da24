"""Finding the run that `resume=` means, and its folder, before Hydra starts."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.backend_specs import COMPILED
from pipeline.child_command import RUN_FOLDER, quoted
from pipeline.config.experiment import typed
from pipeline.devices.world import find_world
from pipeline.run.resume import composed_of, read_identity
from pipeline.storage.checkpoints import checkpoints_of, run_of, torn_checkpoints_of
from pipeline.storage.run_folder import RunFolder, files_below
from pipeline.storage.run_identity import IDENTITY
from pipeline.storage.signature import signature

OUTPUTS = Path("outputs")


def resumed_arguments(arguments: list[str]) -> list[str]:
    """Return the command line with `resume=auto` or `resume=PATH` replaced by the run and its folder.

    Hydra must know the folder before it starts. A run resumes in its own folder, unless `name=` or
    `hydra.run.dir=` names another, or another backend continues it: that needs a new one.
    """
    asked = [argument for argument in arguments if argument.startswith("resume=")]
    if not asked or asked[-1] in ("resume=null", "resume="):
        return arguments
    if is_sweep(arguments):
        return arguments  # each job's own process does this
    rest = [argument for argument in arguments if argument not in asked]
    path = asked[-1].removeprefix("resume=").strip("'\"")
    run = find_unfinished_run(rest) if path == "auto" else run_of(Path(path), "resume")
    if run is None:
        print("resume=auto: no unfinished run of this experiment, starting from scratch")
        return rest
    resume = f"resume={quoted(run if path == 'auto' else path)}"
    named = [argument for argument in rest if argument.startswith("backend=")]
    backend = read_identity(run, "resume").backend
    options = [value.removeprefix("backend=").strip("'\"") for value in named]
    if options and options[-1].removesuffix(COMPILED) != backend:
        return [*rest, resume]
    folder, own = named_folder(rest), run.resolve()
    # A job of a sweep is given the name of the sweep, whose folder is above its own.
    if folder and folder.resolve() not in (own, own.parent):
        return [*rest, resume]
    rest = [argument for argument in rest if not argument.startswith(RUN_FOLDER)]
    # Hydra would replace the files in .hydra even if the command is refused.
    return [*rest, resume, f"{RUN_FOLDER}{quoted(run)}", "hydra.output_subdir=null"]


def is_sweep(arguments: Sequence[str]) -> bool:
    """Return whether a command line starts several jobs."""
    return any(argument in ("-m", "--multirun", "hydra.mode=MULTIRUN") for argument in arguments)


def named_folder(arguments: Sequence[str]) -> Path | None:
    """Return the folder that a command line names for its run; None if it names none."""
    named = {key: value for key, _, value in (argument.partition("=") for argument in arguments)}
    if folder := named.get(RUN_FOLDER[:-1], "").strip("'\""):
        return Path(folder)
    name = named.get("name", "").strip("'\"")
    return OUTPUTS / name if name not in ("", "null") else None


def find_unfinished_run(arguments: list[str]) -> Path | None:
    """Find the run for `resume=auto`: the named one, or without a name the newest of the same experiment.

    None if it has no checkpoint.
    """
    if run := named_folder(arguments):
        for torn in torn_checkpoints_of(run):
            print(f"{run}: its first save, {torn.path.name}, was cut off")
        return run if checkpoints_of(run) else None
    overrides = [argument for argument in arguments if not argument.startswith(("-", "hydra"))]
    return find_resumable_run(OUTPUTS, signature(typed(composed_of(overrides))))


def find_resumable_run(outputs: Path, wanted: str) -> Path | None:
    """Find the most recently started run below `outputs` that has this signature and can be resumed."""
    found = [file for file in files_below(outputs, IDENTITY) if is_resumable(file.parent, wanted)]
    newest = max(found, key=lambda file: file.stat().st_mtime, default=None)
    return newest and newest.parent


def is_resumable(run: Path, wanted: str) -> bool:
    """Return whether a run has this signature and a checkpoint, and is neither completed nor running."""
    folder = RunFolder(run)
    identity = folder.identity
    if identity is None or not folder.is_of(wanted) or folder.status == "completed":
        return False
    # The first rank of this run may have started it already.
    is_busy = find_world().is_main and folder.running
    return bool(checkpoints_of(run)) and not is_busy
