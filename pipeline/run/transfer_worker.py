"""Short process in which a backend exports a run, imports one, or makes the values at step 0.

    python -m pipeline.run.transfer_worker export --key resume --into FOLDER CHECKPOINT…
    python -m pipeline.run.transfer_worker export --key checkpoint --into FOLDER --tested RUN
    python -m pipeline.run.transfer_worker import RUN FILE…
    python -m pipeline.run.transfer_worker initial RUN --backend torch --into FILE

Started by `pipeline.run.transfer`; it loads the framework that its parent must not load. It always
runs on the CPU.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from pipeline.config.accelerator import AcceleratorConfig, Kind
from pipeline.config.experiment import BackendConfig
from pipeline.data import sources
from pipeline.data.batch_plan import make_batch_plan
from pipeline.data.data_spec import data_spec, placeholder_data
from pipeline.devices.process_exit import fast_exit
from pipeline.devices.world import ALONE
from pipeline.errors import UserError
from pipeline.run import backends
from pipeline.run.experiment import Experiment
from pipeline.run.recording.recorder import Recorder
from pipeline.run.resume import read_identity, saved_config
from pipeline.run.transfer import check_optimizer
from pipeline.storage.checkpoints import (
    BrokenCheckpoint,
    Checkpoint,
    checkpoint_at,
    checkpoint_of_step,
    choose_tested,
    first_readable,
    run_of,
)
from pipeline.storage.portable_file import SUFFIX, PortableCheckpoint, read_portable, write_portable
from pipeline.storage.portable_state import Arrays, PortableState
from pipeline.storage.recorder_state import RecorderState
from pipeline.training.model_checks import check_model


def export(found: list[Checkpoint], key: str, out: Path) -> None:
    """Write the first readable checkpoint as a portable file, and an earlier best one."""
    exporter = Exporter(found[0].run, out)
    chosen, recorder_state = first_readable(found, exporter.write, report, key)
    step = recorder_state.best.step if recorder_state.best else chosen.step
    best = checkpoint_of_step(chosen.run, step) if step < chosen.step else None
    if best:
        try:
            exporter.write(best)
        except BrokenCheckpoint as error:
            report(f"{best.path} is broken ({error}): the best evaluation so far is left behind")


def export_tested(path: Path, key: str, out: Path) -> None:
    """Write the checkpoint that `mode=test` chooses as a portable file."""
    exporter = Exporter(run_of(path, key), out)
    chosen, why = choose_tested(path, key, exporter.backend.read_best)
    first_readable([chosen], partial(exporter.write, chosen=why), report, key)


class Exporter:
    """Writes checkpoints of the run in folder `run` as portable files into folder `out`."""

    def __init__(self, run: Path, out: Path) -> None:
        self.experiment, self.out = experiment_of(run), out
        self.backend = backends.load(self.experiment.config.backend.name)
        self.device = self.backend.prepare(self.experiment.config, ALONE)
        config, data = read_identity(run, "resume").config, self.experiment.plan.data
        self.about = {"config": config, "data": data_spec(data)}

    def write(self, checkpoint: Checkpoint, **more: str) -> RecorderState:
        """Write a checkpoint; return the recorder's state in it."""
        state, recorder_state = self.backend.export(self.experiment, self.device, checkpoint)
        run = self.about | {"backend": checkpoint.backend, "source": str(checkpoint.path)} | more
        portable = PortableCheckpoint(state, recorder_state, run)
        write_portable(self.out / f"{state.step:012d}{SUFFIX}", portable)
        return recorder_state


def report(message: str) -> None:
    """Report a skipped checkpoint to the user on stderr; stdout is the parent's."""
    print(message, file=sys.stderr)


def import_files(run: Path, paths: list[Path], anew: Sequence[str] = ()) -> None:
    """Write portable files as checkpoints of a run; arrays to start `anew` have their values at step 0."""
    experiment = experiment_of(run)
    backend = backends.load(experiment.config.backend.name)
    device = backend.prepare(experiment.config, ALONE)
    portables = [read_portable(path) for path in paths]
    if anew:
        start = backend.initial(experiment, device)
        portables = [with_values(portable, start, anew) for portable in portables]
    check_optimizer(portables[-1], experiment.config)
    backend.adopt(experiment, device, portables)


def with_values(
    portable: PortableCheckpoint, start: PortableState, names: Sequence[str]
) -> PortableCheckpoint:
    """Return a checkpoint of weights with some arrays of another state, as far as that has them."""

    def replaced(arrays: Arrays, others: Arrays) -> Arrays:
        kept = {name: array for name, array in arrays.items() if name not in names}
        return kept | {name: others[name] for name in others if name in names}

    state = replace(
        portable.state,
        parameters=replaced(portable.state.parameters, start.parameters),
        buffers=replaced(portable.state.buffers, start.buffers),
    )
    return replace(portable, state=state)


def write_initial(run: Path, name: str, out: Path) -> None:
    """Write the values at step 0 of a run's model of another backend as a portable file."""
    experiment = experiment_of(run, name)
    backend = backends.load(name)
    state = backend.initial(experiment, backend.prepare(experiment.config, ALONE))
    write_portable(out, PortableCheckpoint(state, None, {"source": str(run)}))


def experiment_of(run: Path, backend: str | None = None) -> Experiment:
    """Assemble the experiment of a run, on the CPU and with placeholder data: enough to build its state.

    If the `run.json` in its folder has no data spec, the data are loaded. `backend` takes the place of the
    run's own.
    """
    config = replace(saved_config(run, "resume"), accelerator=AcceleratorConfig(kind=Kind.cpu))
    config = replace(config, backend=BackendConfig(name=backend)) if backend else config
    known = read_identity(run, "resume").data
    data = (
        placeholder_data(known, config.task) if known else sources.load(config.dataset, config.task)
    )
    check_model(config, data)
    return Experiment(config, make_batch_plan(config, data), Recorder(config, data), run)


def work(arguments: Sequence[str]) -> None:
    """Execute the command line of this process."""
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.run.transfer_worker", description=__doc__
    )
    commands = parser.add_subparsers(dest="command", required=True)
    out = commands.add_parser("export", help="checkpoints to portable files")
    out.add_argument("--key", required=True, help="config key that names the run")
    out.add_argument("--into", type=Path, required=True, help="folder for the files")
    out.add_argument(
        "--tested", action="store_true", help="export the one checkpoint that mode=test chooses"
    )
    out.add_argument("path", nargs="+", type=Path, help="checkpoints, best choice first; or a run")
    into = commands.add_parser("import", help="portable files to checkpoints")
    into.add_argument("run", type=Path, help="folder of the run")
    into.add_argument("path", nargs="+", type=Path, help="files, ordered by step")
    into.add_argument("--anew", action="append", default=[], help="array with its value at step 0")
    start = commands.add_parser("initial", help="values at step 0 to a portable file")
    start.add_argument("run", type=Path, help="folder of the run")
    start.add_argument("--backend", required=True, help="whose model makes them")
    start.add_argument("--into", type=Path, required=True, help="the file")
    asked = parser.parse_args(arguments)
    if asked.command == "import":
        import_files(asked.run, asked.path, asked.anew)
    elif asked.command == "initial":
        write_initial(asked.run, asked.backend, asked.into)
    elif asked.tested:
        export_tested(asked.path[0], asked.key, asked.into)
    else:
        found = [checkpoint for path in asked.path if (checkpoint := checkpoint_at(path))]
        export(found, asked.key, asked.into)


def main() -> int:
    """Run `work`; a UserError is printed in JSON for the parent."""
    try:
        work(sys.argv[1:])
    except UserError as error:
        print("\n" + json.dumps(error.parts))
        return 1
    return 0


if __name__ == "__main__":
    fast_exit(main())
