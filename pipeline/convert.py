"""A checkpoint of one backend for the other, or for safetensors, and back.

python -m pipeline.convert outputs/first outputs/first-jax          # torch to jax, or jax to torch
python -m pipeline.convert outputs/first weights.safetensors        # weights alone, for anybody
python -m pipeline.convert outputs/first run.safetensors --whole    # optimizer state included
python -m pipeline.convert run.safetensors outputs/back --backend torch
python -m pipeline.convert theirs.safetensors outputs/new --backend jax model=resnet18
python -m pipeline.convert theirs.safetensors outputs/new --backend jax model=resnet18 --leave-out "fc.*"
"""

import argparse
import errno
import fnmatch
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.cli.main import EXPECTED_ERRORS
from pipeline.commands import command
from pipeline.config.checks.hydra_errors import to_user_error
from pipeline.config.checks.suggestions import nearest
from pipeline.config.experiment import Config, plain, register, typed
from pipeline.data import sources
from pipeline.digest import digest
from pipeline.errors import UserError
from pipeline.run.backends import BACKENDS
from pipeline.run.resume import composed_of, overlaid, overridden_keys, read_identity, structured
from pipeline.run.start.pair_names import provide_names
from pipeline.run.transfer import carry_history, export_run, export_tested, import_run
from pipeline.storage import checkpoints, portable_file
from pipeline.storage.portable_file import SUFFIX, PortableCheckpoint
from pipeline.storage.portable_state import STATISTICS
from pipeline.storage.recorder_state import RecorderState
from pipeline.storage.run_folder import RunFolder
from pipeline.storage.run_result import RunResult
from pipeline.storage.signature import signature
from pipeline.verify.names.names_file import NamesFile, names_of
from pipeline.verify.names.pieces import canonical_arrays

EXAMPLES = __doc__.partition("\n")[2]

PICKLED = (".pth", ".pt", ".bin", ".pkl")  # weights as other programs save them


def convert(
    source: Path,
    target: Path,
    backend: str | None = None,
    whole: bool = False,
    config: Path | None = None,
    overrides: Sequence[str] = (),
    leave_out: Sequence[str] = (),
) -> None:
    """Convert a checkpoint.

    Args:
        source: a run, one of its checkpoints, or a safetensors file.
        target: a safetensors file, or the folder of a new run.
        backend: target backend; None: the one that is not the source's.
        whole: put the whole run into a safetensors file, not only the weights.
        config: a run whose config the new run uses; None: the source's.
        overrides: of that config, as for `run.py`.
        leave_out: patterns of names of arrays that start anew, as a head for other classes.
    """
    check_target(target)
    to_file = target.suffix == SUFFIX
    print(f"reading {source}", flush=True)
    portables = read_source(source, to_file and not whole)
    last = portables[-1]
    step = last.state.step
    try:
        if not to_file:
            make_run(source, target, portables, backend, config, overrides, leave_out)
        elif whole and last.recorder_state:
            portable_file.write_portable(target, last)
            print(f"all of the run at step {step}  →  {target}")
        else:
            portable_file.write_weights(target, last)
            which = "averaged weights" if last.state.averages else "weights"
            why = f" ({last.run['chosen']})" if "chosen" in last.run else ""
            print(f"{which} of step {step}{why}  →  {target}")
    except OSError as error:
        raise unwritable(target, error) from error


def check_target(target: Path) -> None:
    """Refuse a target that exists, is not writable, or has the name of another file format."""
    if target.suffix[1:2].isalpha() and target.suffix != SUFFIX:
        problem = f"{target.suffix} is no format to convert to"
        raise UserError("DST", target, problem=problem, hint=f"Name a {SUFFIX} file, or a folder.")
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise UserError("DST", target, problem="it already exists")
    above = next(folder for folder in target.absolute().parents if folder.exists())
    if not above.is_dir():
        raise unwritable(target, NotADirectoryError(errno.ENOTDIR, f"{above} is a file"))
    if not os.access(above, os.W_OK):
        raise unwritable(target, PermissionError(errno.EACCES, f"{above} is read-only"))


def unwritable(target: Path, error: OSError) -> UserError:
    """Make the error for a target that the file system refuses."""
    problem = f"it cannot be written: {error.strerror or error}"
    hint = "Choose another place, or free some space."
    return UserError("DST", target, problem=problem, hint=hint)


def read_source(source: Path, weights: bool) -> list[PortableCheckpoint]:
    """Read a run, a checkpoint or a file, in the order of steps; the last is the one asked for.

    With `weights` a whole run gives the weights that `mode=test` would choose, else its newest
    checkpoint.
    """
    if source.suffix == SUFFIX:
        if not source.is_file():
            raise UserError("SRC", source, "an existing file")
        try:
            portable = portable_file.read_portable(source)
        except checkpoints.BrokenCheckpoint as error:
            raise checkpoints.broken("SRC", source, error) from error
        return [replace(portable, run=portable.run | {"source": str(source)})]
    if source.suffix in PICKLED and source.is_file():
        problem = "a pickle can run any code, so it is not read"
        hint = "Save it as safetensors: safetensors.torch.save_file(model.state_dict(), 'NAME.safetensors')"
        raise UserError("SRC", source, problem=problem, hint=hint)
    found = checkpoints.candidates(source, "SRC")
    if weights:
        return export_tested(source, "SRC")
    return export_run(found[:1] if checkpoints.checkpoint_at(source) else found, "SRC")


def make_run(
    source: Path,
    target: Path,
    portables: list[PortableCheckpoint],
    backend: str | None,
    config: Path | None,
    overrides: Sequence[str],
    leave_out: Sequence[str] = (),
) -> None:
    """Write a run folder: identity, logged history and checkpoints."""
    about = portables[-1].run
    if config:
        identity = read_identity(config, "--config")
        about = about | {"config": identity.config, "data": identity.data}
        backend = backend or identity.backend
    chosen = config_of(about, backend, overrides)
    folder = RunFolder(target.resolve())
    keys = overridden_keys(overrides)
    has_same_data = not any(key.startswith("dataset") for key in keys)
    try:
        provide_names(
            chosen,
            partial(sources.load, chosen.dataset, chosen.task),
            folder.path,
            None if source.suffix == SUFFIX else checkpoints.run_of(source, "SRC"),
        )
        if names := names_of(chosen.model, folder.path):
            portables = [with_canonical_names(portable, names) for portable in portables]
        anew = left_out(portables[-1], leave_out)
        print(f"writing a checkpoint of {chosen.backend.name}", flush=True)
        folder.identify(chosen, about.get("data") if has_same_data else None)
        import_run(folder.path, [with_recorder_state(portable) for portable in portables], anew)
        if portables[-1].recorder_state and source.suffix != SUFFIX:
            step, run = portables[-1].state.step, checkpoints.run_of(source, "SRC")
            carry_history(run, folder.path, step, chosen.logger)
        folder.write_result(result_of(source, folder.path, chosen, portables))
    except BaseException:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise
    print(f"a run of {chosen.backend.name} at step {portables[-1].state.step}  →  {target}")
    print(f"go on with: {command('run')} resume={target}")


def left_out(portable: PortableCheckpoint, patterns: Sequence[str]) -> list[str]:
    """Return the names of arrays that start anew."""
    if patterns and portable.recorder_state:
        problem = "the state of a whole run has no part that can start anew"
        hint = f"Start from its weights: {command('convert')} RUN weights.safetensors"
        raise UserError("--leave-out", patterns[0], problem=problem, hint=hint)
    names = list(portable.state.shapes)
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            close = nearest(pattern, names)
            hint = f"Did you mean {close}?" if close else ""
            raise UserError("--leave-out", pattern, "a pattern of an array's name", hint)
    return [name for name in names if any(fnmatch.fnmatch(name, each) for each in patterns)]


def config_of(about: dict[str, Any], backend: str | None, overrides: Sequence[str]) -> Config:
    """Return the config of the new run; `about` is what is known of the source's."""
    others = [name for name in BACKENDS if name != about.get("backend")]
    if backend is None and len(others) != 1:
        raise UserError("--backend", None, f"one of {', '.join(BACKENDS)}", "Set --backend=NAME.")
    register()
    keys = overridden_keys(overrides)
    composed = composed_of([*overrides, f"backend={backend or others[0]}"])
    if "config" in about:
        composed = overlaid(structured(about["config"]), composed, [*keys, "backend"])
    elif "model" not in keys:
        problem = "the file does not say which model it belongs to"
        hint = "Add what run.py needs to build the model, as in model=resnet18 dataset=cifar10."
        raise UserError("SRC", about["source"], problem=problem, hint=hint)
    return replace(typed(composed), resume=None, checkpoint=None, name=None)


def with_canonical_names(portable: PortableCheckpoint, names: NamesFile) -> PortableCheckpoint:
    """Translate weights alone, which may have the names of a JAX model."""
    if portable.recorder_state is not None:
        return portable
    state = portable.state
    arrays = canonical_arrays(names, state.parameters | state.buffers)
    buffers = {name: array for name, array in arrays.items() if name.endswith(STATISTICS)}
    weights = {name: array for name, array in arrays.items() if name not in buffers}
    return replace(portable, state=replace(state, parameters=weights, buffers=buffers))


def with_recorder_state(portable: PortableCheckpoint) -> PortableCheckpoint:
    """Add the state of a new recorder to weights alone."""
    if portable.recorder_state is not None:
        return portable
    weights = portable.state.parameters
    count = sum(array.size for array in weights.values())
    facts = {"parameters": count, "init_digest": digest(weights)}
    return replace(portable, recorder_state=RecorderState(facts=facts))


def result_of(
    source: Path, folder: Path, config: Config, portables: Sequence[PortableCheckpoint]
) -> RunResult:
    """Make the result of a converted run, which can be resumed."""
    state = portables[-1].recorder_state
    best = state.best if state else None
    checkpoint = checkpoints.checkpoint_of_step(folder, best.step) if best else None
    return RunResult(
        status="interrupted",
        signature=signature(config),
        name=folder.name,
        backend=config.backend.name,
        config=plain(config),
        steps=portables[-1].state.step,
        converted_from=str(source),
        best=replace(best, checkpoint=str(checkpoint.path)) if best and checkpoint else None,
    )


def main() -> int:
    """`python -m pipeline.convert SRC DST`"""
    parser = argparse.ArgumentParser(
        prog=command("convert"),
        description=__doc__.partition("\n")[0],
        epilog=EXAMPLES.replace("python -m pipeline.convert", command("convert")),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SRC", type=Path, help="a run, a checkpoint, or a file")
    parser.add_argument(
        "target", metavar="DST", type=Path, help=f"a new NAME{SUFFIX}, or the folder of a new run"
    )
    parser.add_argument("--backend", choices=list(BACKENDS), help="of the new run")
    parser.add_argument("--whole", action="store_true", help="all of the run, not weights alone")
    parser.add_argument("--config", metavar="RUN", type=Path, help="that has the new run's config")
    parser.add_argument(
        "--leave-out", metavar="PATTERN", action="append", default=[],
        help="arrays that start anew, by name: a head for other classes",
    )  # fmt: skip
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="of the new run's config")
    asked = parser.parse_intermixed_args()
    try:
        convert(**vars(asked))
    except EXPECTED_ERRORS as error:
        print(f"error: {to_user_error(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
