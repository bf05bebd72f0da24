"""A run folder made from a checkpoint of another backend, or from a file."""

import fnmatch
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.commands import command
from pipeline.config.checks.suggestions import nearest
from pipeline.config.experiment import Config, plain, register, typed
from pipeline.config.stored_config import structured
from pipeline.data import sources
from pipeline.digest import digest
from pipeline.errors import UserError
from pipeline.run.backends import BACKENDS
from pipeline.run.continuation import carry_history
from pipeline.run.resume import composed_of, overlaid, overridden_keys, read_identity
from pipeline.run.start.pair_names import provide_names
from pipeline.run.transfer import import_run
from pipeline.storage import checkpoints
from pipeline.storage.portable_file import SUFFIX, PortableCheckpoint
from pipeline.storage.portable_state import STATISTICS
from pipeline.storage.recorder_state import RecorderState
from pipeline.storage.run_folder import RunFolder
from pipeline.storage.run_result import RunResult
from pipeline.storage.signature import signature
from pipeline.verify.names.names_file import NamesFile, names_of
from pipeline.verify.names.pieces import canonical_arrays


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
