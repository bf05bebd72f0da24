"""The short process in which a backend hands a run out, or takes one in.

    python -m pipeline.carrier export --key resume --best FOLDER CHECKPOINT…
    python -m pipeline.carrier adopt RUN PARCEL…

Called by `pipeline.crossing`; it is what loads the framework. Always on the CPU.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from pipeline import backends, datasets
from pipeline.checkpoints import (
    BrokenCheckpoint,
    Checkpoint,
    checkpoint_at,
    checkpoint_of_step,
    first_readable,
)
from pipeline.config import AcceleratorConfig, Config, Kind
from pipeline.crossing import check_optimizer
from pipeline.errors import UserError
from pipeline.experiment import Experiment, assemble
from pipeline.models import check_model
from pipeline.outline import hollow, outline
from pipeline.parcels import SUFFIX, Parcel, read_parcel, write_parcel
from pipeline.plan import data_plan
from pipeline.processes import leave
from pipeline.runs import IDENTITY, read_json
from pipeline.saved import saved_config
from pipeline.world import ALONE


def export(found: list[Checkpoint], key: str, best: bool, out: Path) -> None:
    """Write the first checkpoint that can be read as a parcel; with `best` the best one, too.

    Raises:
        UserError: none can be read.
    """
    experiment = experiment_of(found[0].run)
    backend = backends.load(experiment.config.backend.name)
    device = backend.prepare(experiment.config, ALONE)
    identity = read_json(found[0].run / IDENTITY)
    about = {"backend": found[0].backend, "config": identity["config"]}
    about["data"] = outline(experiment.plan.data)

    def write(checkpoint: Checkpoint) -> dict:
        state, memory = backend.export(experiment, device, checkpoint)
        run = about | {"source": str(checkpoint.path)}
        write_parcel(out / f"{state.step:012d}{SUFFIX}", Parcel(state, memory, run))
        return memory

    report = partial(print, file=sys.stderr)
    chosen, memory = first_readable(found, write, report, key)
    step = (memory["best"] or {"step": chosen.step})["step"]
    earlier = checkpoint_of_step(chosen.run, step) if best and step < chosen.step else None
    if earlier:
        try:
            write(earlier)
        except BrokenCheckpoint as error:
            report(f"{earlier.path} is broken ({error}): the best evaluation so far is left behind")


def adopt(run: Path, paths: list[Path]) -> None:
    """Write parcels as checkpoints of a run.

    Raises:
        UserError: one is of another model.
    """
    experiment = experiment_of(run)
    backend = backends.load(experiment.config.backend.name)
    device = backend.prepare(experiment.config, ALONE)
    parcels = [read_parcel(path) for path in paths]
    check_optimizer(parcels[-1], experiment.config)
    backend.adopt(experiment, device, parcels)


def experiment_of(run: Path) -> Experiment:
    """The experiment of a run, with nothing in its data set: enough to build its state.

    Args:
        run: its folder; a run that notes no outline of its data has them loaded.

    Raises:
        UserError: its config and its data do not fit, or the data are not there.
    """
    config = on_cpu(saved_config(run, "resume"))
    known = (read_json(run / IDENTITY) or {}).get("data")
    data = hollow(known) if known else datasets.load(config.dataset)
    check_model(config, data)
    plan = data_plan(config, data)
    return assemble(config, plan, run, tracker=None, progress=None, interruption=None)


def on_cpu(config: Config) -> Config:
    """The config for a process that computes nothing."""
    return replace(config, accelerator=AcceleratorConfig(kind=Kind.cpu))


def carry(arguments: Sequence[str]) -> None:
    """Do what the command line of this process asks.

    Raises:
        UserError: see `export` and `adopt`.
    """
    parser = argparse.ArgumentParser(prog="python -m pipeline.carrier", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    out = commands.add_parser("export", help="checkpoints to parcels")
    out.add_argument("--key", required=True, help="that asks for them")
    out.add_argument("--best", action="store_true", help="the best checkpoint, too")
    out.add_argument("folder", type=Path, help="for the parcels")
    out.add_argument("checkpoint", nargs="+", type=Path, help="best choice first")
    into = commands.add_parser("adopt", help="parcels to checkpoints")
    into.add_argument("run", type=Path, help="folder of the run")
    into.add_argument("parcel", nargs="+", type=Path, help="in the order of their steps")
    asked = parser.parse_args(arguments)
    if asked.command == "export":
        found = [checkpoint_at(path) for path in asked.checkpoint]
        export(found, asked.key, asked.best, asked.folder)
    else:
        adopt(asked.run, asked.parcel)


def main() -> int:
    """`python -m pipeline.carrier …`; an error of the user's is told in JSON, for the parent."""
    try:
        carry(sys.argv[1:])
    except UserError as error:
        told = {part: str(getattr(error, part)) for part in ("key", "value", "allowed", "hint")}
        print("\n" + json.dumps(told))
        return 1
    return 0


if __name__ == "__main__":
    leave(main())
