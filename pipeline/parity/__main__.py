"""`python -m pipeline.parity [OVERRIDES…]`: is this experiment the same on both backends?"""

import argparse
import os
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from pipeline import datasets
from pipeline.config import Config, Precision, register
from pipeline.errors import RunFailed, UserError
from pipeline.explain import explain
from pipeline.hardware import bound_threads, gpu_is_there
from pipeline.keys import CONF
from pipeline.models import check_model
from pipeline.parity.lockstep import Comparison, compare
from pipeline.parity.report import layers_table, table, verdict, write
from pipeline.precheck import check_arguments, checked
from pipeline.processes import leave
from pipeline.saved import given
from pipeline.terminal import say
from pipeline.timetable import timetable

BACKENDS = ("torch", "jax")

# What a proof is made in, unless the command says otherwise.
DEFAULTS = {
    "train.precision": "fp64",
    "train.steps": "200",
    "train.randomness": "shared",
}
# What it needs: every step is looked into, and nothing is kept.
ALWAYS = ("train.log_every=1", "accelerator.steps_per_call=1", "logger=none", "backend=torch")

DESCRIPTION = f"""Run an experiment on both backends in lockstep and tell whether they are the same.

OVERRIDES are those of run.py. Unless given: {", ".join(f"{k}={v}" for k, v in DEFAULTS.items())}.
Ends with exit code 0 if they are the same, 1 if they part. In fp64 nothing may differ by more than 1e-10,
but for what is rounding alone; in fp32 and bf16 by no more than three times what a run differs from
itself when its weights at step 0 are moved by one unit in the last place."""


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        "python -m pipeline.parity",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDES")
    overrides = parser.parse_args(arguments).overrides
    try:
        config = configured(overrides)
        comparison = run(config)
    except (UserError, RunFailed, HydraException, OmegaConfBaseException) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(explain(error), file=sys.stderr)
        return 1
    folder = Path("outputs") / (config.name or f"parity-{datetime.now():%Y-%m-%d_%H-%M-%S-%f}")
    say(table(comparison))
    if comparison.parting:
        say(layers_table(comparison))
    say(f"[bold {'red' if comparison.parting else 'green'}]{verdict(comparison)}[/]")
    for path in write(comparison, config, folder):
        say(f"→  {path}", soft_wrap=True)
    return 1 if comparison.parting else 0


def configured(overrides: Sequence[str]) -> Config:
    """The experiment that the overrides make, as run.py would, in the precision of a proof.

    Raises:
        UserError: a value is out of range, or a key does not belong here.
        HydraException: an override is not of Hydra's grammar, or its key is unknown.
    """
    check_arguments(overrides)
    keys = given(overrides)
    for key in ("backend", "logger", "mode", "resume", "checkpoint"):
        if key in keys:
            raise UserError(
                key, "…", "left out: parity runs both backends from the start, unlogged"
            )
    defaults = [f"{key}={value}" for key, value in DEFAULTS.items() if key not in keys]
    if "train.epochs" in keys:
        defaults = [default for default in defaults if not default.startswith("train.steps")]
    register()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = checked(compose("config", [*defaults, *overrides, *ALWAYS]))
    for key in ("devices", "nodes"):
        value = getattr(config.accelerator, key)
        if value != 1:
            raise UserError(
                f"accelerator.{key}",
                value,
                "1: parity holds one device of each framework beside the other",
                "To compare numbers of devices: python run.py -m accelerator.devices=1,2",
            )
    return config


def run(config: Config) -> Comparison:
    """Run both backends in lockstep, telling how it goes."""
    os.environ["TANDEM_PROGRESS"] = "none"  # of the two runs: what they do is told here
    bound_threads(config.accelerator.threads)
    data = datasets.load(config.dataset)
    check_model(config, data)
    total = timetable(config.train, len(data.train)).total
    apart = gpu_is_there() and config.accelerator.kind.name != "cpu"
    where = "two processes" if apart else "one process"
    say(
        f"{config.model.name} on {config.dataset.name}, {config.optimizer.name}, "
        f"{config.train.precision.name}: {' and '.join(BACKENDS)} in lockstep, {total} steps, {where}"
    )

    def report(step: int, comparison: Comparison) -> None:
        if step in (1, 2, 5, 10) or (step and step % max(1, total // 10) == 0):
            loss = comparison.quantities["loss", "loss"].values[step]
            say(f"step {step}/{total}  loss {comparison.losses['torch'][-1]:.4g} ± {loss:.1e}")

    noise = config.train.precision is not Precision.fp64
    comparison = compare(config, BACKENDS, apart, report, noise)
    if comparison.parting and not noise:
        # What is zero but for rounding is nothing but noise: before a verdict, measure it.
        say("once more, each also beside itself with weights moved by one unit in the last place")
        return compare(config, BACKENDS, apart, report, noise=True)
    return comparison


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
