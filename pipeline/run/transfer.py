"""Transfer of runs between the backends, through portable files.

Work that needs another framework than the job's own runs in a short process (`run.transfer_worker`), so
that a torch job never loads jax, nor a jax job torch.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from pipeline.config.experiment import Config
from pipeline.config.optimizers import OwnOptimizerConfig
from pipeline.data.data_spec import data_spec
from pipeline.data.dataset import Data
from pipeline.devices.world import World, single_process_environment
from pipeline.errors import UserError, failure
from pipeline.run.backends import Device
from pipeline.run.resume import check_same_optimizer, weights_alone
from pipeline.run.start.pair_names import copy_names
from pipeline.storage.checkpoints import Checkpoint
from pipeline.storage.portable_file import SUFFIX, PortableCheckpoint, read_portable, write_portable
from pipeline.storage.run_folder import RunFolder


def export_run(
    found: Sequence[Checkpoint], key: str, scratch: Path | None = None
) -> list[PortableCheckpoint]:
    """Export a run, named by the config key `key`, through its own backend.

    `found` are its checkpoints, best choice first; a broken one is reported and skipped. `scratch` is a
    folder for temporary files, as large as the checkpoints; None: the system's.

    Returns:
        One or two checkpoints, ordered by step: the best (if earlier and still on disk), then the first
        readable one of `found`.
    """
    return _export(["--key", key, *(str(checkpoint.path) for checkpoint in found)], scratch)


def export_tested(path: Path, key: str, scratch: Path | None = None) -> list[PortableCheckpoint]:
    """Export the one checkpoint that `mode=test` chooses for `path`; its `run["chosen"]` says why."""
    return _export(["--key", key, "--tested", str(path)], scratch)


def _export(arguments: Sequence[str], scratch: Path | None) -> list[PortableCheckpoint]:
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        _run_worker("export", *arguments, "--into", folder)
        return [read_portable(path) for path in sorted(Path(folder).iterdir())]


def import_run(
    run: Path, portables: Sequence[PortableCheckpoint], anew: Sequence[str] = ()
) -> None:
    """Write checkpoints of a run, ordered by step, with the backend that its `run.json` names.

    `anew` are the names of arrays whose values at step 0 take the place of those in the checkpoints.
    """
    with tempfile.TemporaryDirectory(dir=run) as folder:
        paths = [Path(folder) / f"{index}{SUFFIX}" for index in range(len(portables))]
        for path, portable in zip(paths, portables, strict=True):
            write_portable(path, portable)
        options = [f"--anew={name}" for name in anew]
        _run_worker("import", str(run), *options, *map(str, paths))


def make_initial(
    config: Config, data: Data, backend: str, folder: Path
) -> list[PortableCheckpoint]:
    """Make the values at step 0 of a user's own model of another backend, as a single checkpoint.

    `folder` is that of the run.
    """
    with tempfile.TemporaryDirectory() as scratch:
        run, out = Path(scratch) / "run", Path(scratch) / f"initial{SUFFIX}"
        copy_names(config, folder, run)
        RunFolder(run).identify(config, data_spec(data))
        _run_worker("initial", str(run), "--backend", backend, "--into", str(out))
        return [read_portable(out)]


def on_all_ranks(
    export: Callable[[], list[PortableCheckpoint]], folder: Path, device: Device, world: World
) -> list[PortableCheckpoint]:
    """Export in the first process of a run; the others read the result from files in its folder."""
    if world.size == 1:
        return export()
    shared = folder / ".transfer"
    if world.is_main:
        for index, portable in enumerate(export()):
            write_portable(shared / f"{index}{SUFFIX}", portable)
    device.wait_for_all()
    portables = [read_portable(path) for path in sorted(shared.iterdir())]
    device.wait_for_all()
    if world.is_main:
        shutil.rmtree(shared)
    return portables


def check_optimizer(portable: PortableCheckpoint, config: Config) -> None:
    """Refuse the state of another optimizer, or of a user's own; at step 0 there is none yet."""
    if portable.state.step > 0:
        saved = portable.run["config"]["optimizer"]["name"]
        if saved == config.optimizer.name == OwnOptimizerConfig.name:
            problem = (
                f"{portable.source} is of step {portable.state.step}, and the state of a user's own "
                "optimizer cannot be converted"
            )
            hint = weights_alone(portable.source)
            raise UserError("optimizer", saved, problem=problem, hint=hint)
        check_same_optimizer(portable.source, saved, config.optimizer.name)


def _run_worker(*arguments: str) -> None:
    """Run `run.transfer_worker`; raises the UserError that it reports."""
    command = [sys.executable, "-P", "-m", "pipeline.run.transfer_worker", *arguments]
    # Same import path as this process, for a user's own model.
    search = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
    environment = single_process_environment() | {"PYTHONPATH": search}
    child = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if child.returncode != 0:
        raise failure(child, command)


def export_to_resume(
    found: Sequence[Checkpoint], config: Config, folder: Path, device: Device, world: World
) -> list[PortableCheckpoint]:
    """Export a run of another backend, to continue it.

    `found` are the checkpoints of that run, best choice first; `config` and `folder` are of the
    continuation.
    """
    portables = on_all_ranks(partial(export_run, found, "resume", folder), folder, device, world)
    check_optimizer(portables[-1], config)
    return portables
