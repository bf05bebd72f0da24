"""`python -m pipeline.parity [OVERRIDES…]`: check if an experiment is the same on two backends."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
from hydra import compose
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from pipeline.backend_specs import BACKENDS
from pipeline.child_command import quoted
from pipeline.commands import command
from pipeline.config.checks.hydra_errors import explain
from pipeline.config.checks.open_keys import check_open_keys
from pipeline.config.checks.validate import check_arguments, validate_config
from pipeline.config.experiment import Config, register
from pipeline.config.fields import require
from pipeline.config.hydra_compat import compose_from
from pipeline.config.models import OwnConfig
from pipeline.config.train import Precision
from pipeline.console import print_and_log
from pipeline.data import sources
from pipeline.devices.hardware import gpu_count, limit_threads
from pipeline.devices.process_exit import fast_exit
from pipeline.errors import Diverged, RunFailed, UserError
from pipeline.parity.differences import WEIGHTS
from pipeline.parity.lockstep import Comparison, compare
from pipeline.parity.report import alone, layers_table, table, verdict, write
from pipeline.parity.workers import initial_values
from pipeline.run.resume import overridden_keys
from pipeline.run.start.pair_names import provide_names
from pipeline.shipped import CONF
from pipeline.storage.names_path import is_auto, names_in
from pipeline.training.intervals import make_intervals
from pipeline.training.model_checks import check_model
from pipeline.verify.own_pair import write_own_names

# Defaults of a parity check.
DEFAULTS = {"train.precision": "fp64", "train.steps": "200", "train.randomness": "shared"}
BOTH = ",".join(list(BACKENDS)[:2])
# Observe every step, and keep no files.
ALWAYS = ("train.log_every=1", "accelerator.steps_per_call=1", "logger=none")

DESCRIPTION = f"""Run an experiment on two backends in lockstep and report if they are the same.

OVERRIDES are those of run.py, with two options of backend (torch, torch_compiled, jax). Unless given:
backend={BOTH} {" ".join(f"{k}={v}" for k, v in DEFAULTS.items())}.
Ends with exit code 0 if they are the same, 1 if they part, 2 if that cannot be told. In fp64 nothing may
differ by more than 1e-10, but for what is rounding alone; in fp32 and bf16 by no more than three times
what a run differs from itself when its weights at step 0 are moved by one unit in the last place, or 1e-5
(bf16: 2e-2). Random numbers that a user's own models draw by themselves, as in dropout, are constants in
fp64; in fp32 and bf16 layers of dropout with the same names draw the same masks, and there is no verdict on
other models that draw."""

# Keys that parity does not support, with a hint.
IGNORED = {
    "hydra": "Name the folder with name=NAME: it is outputs/NAME.",
    "backend.name": f"Choose two options: backend={BOTH}",
    "logger": "Leave it out: parity logs to outputs/NAME/parity.json only.",
    **dict.fromkeys(
        ("mode", "resume", "checkpoint"), "Leave it out: parity trains from the first step."
    ),
}


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        command("parity"),
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDES")
    parser.add_argument("--config-dir", "-cd", metavar="FOLDER", help="options of your own")
    asked = parser.parse_intermixed_args(arguments)
    try:
        configs = compose_configs(asked.overrides, asked.config_dir)
        name = next(iter(configs.values())).name or f"parity-{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
        folder = Path("outputs") / name
        config, comparison = run(configs, folder)
    except (UserError, RunFailed, Diverged, HydraException, OmegaConfBaseException) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(explain(error), file=sys.stderr)
        return 1
    print_and_log(table(comparison))
    parting = comparison.parting
    if parting:
        print_and_log(layers_table(comparison, parting[0]))
    if names := alone(comparison):
        print_and_log(
            f"[yellow]{names}[/]" if parting else f"left out, since no loss depends on it: {names}"
        )
    colour = "yellow" if comparison.abstention else "red" if parting else "green"
    print_and_log(f"[bold {colour}]{verdict(comparison)}[/]")
    for path in write(comparison, config, folder):
        print_and_log(f"→  {path}", soft_wrap=True)
    return 2 if comparison.abstention else 1 if parting else 0


def compose_configs(overrides: Sequence[str], folder: str | None = None) -> dict[str, Config]:
    """Compose the config like run.py for two options of `backend`, or refuse it.

    It has the defaults of a parity check. `folder` has options of the user's own.
    """
    options, overrides = split_backends(overrides)
    keys = overridden_keys(overrides)
    for key in keys:
        if hint := IGNORED.get(key) or IGNORED.get(key.partition(".")[0]):
            raise UserError(key, "…", hint=hint, problem="has no effect on parity")
    given = {*keys, "train.steps"} if "train.epochs" in keys else keys
    defaults = [f"{key}={value}" for key, value in DEFAULTS.items() if key not in given]
    register()
    search = []
    if folder is not None:
        require(Path(folder).is_dir(), "--config-dir", folder, "an existing folder")
        search = [f"hydra.searchpath=[{quoted(f'file://{Path(folder).resolve()}')}]"]
    given = [*search, *defaults, *overrides, *ALWAYS]
    with compose_from(CONF):
        check_open_keys(given)
        configs = {
            option: validate_config(compose("config", [*given, f"backend={option}"]))
            for option in options
        }
    config = configs[options[0]]
    allowed = "1: parity compares one device of each backend"
    hint = f"To compare numbers of devices: {command('run')} -m accelerator.devices=1,2"
    for key in ("devices", "nodes"):
        value = getattr(config.accelerator, key)
        require(value == 1, f"accelerator.{key}", value, allowed, hint)
    return configs


def split_backends(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the two options of `backend` that are compared, and the other overrides.

    Raises:
        UserError: they are not two, or an override is not of Hydra's form.
    """
    check_arguments(overrides)
    chosen = [one for one in overrides if one.startswith("backend=")]
    value = chosen[-1].removeprefix("backend=").strip("'\"") if chosen else BOTH
    options = [option.strip() for option in value.split(",")]
    hint = f"To run one, and compare later: {command('run')} -m backend={BOTH}"
    allowed = f"two options, such as {BOTH} or torch,torch_compiled"
    require(len(options) == len(set(options)) == 2, "backend", value, allowed, hint)
    return options, [one for one in overrides if one not in chosen]


class NamesDiffer(Exception):
    """At step 0 a user's two models have parameters of other names or shapes."""


def names_differ(comparison: Comparison) -> bool:
    """Return whether parameters of one backend have another name or shape on the other one."""
    shapes = any(np.isinf(weights.values[0]) for weights in comparison.parts[WEIGHTS])
    return shapes or all(comparison.alone.values())


def run(configs: Mapping[str, Config], folder: Path) -> tuple[Config, Comparison]:
    """Run both backends in lockstep and print the progress; return the first's config with which it ran.

    If the names of a user's two models differ, they are aligned first; the file is put into `folder`.
    """
    first, second = configs
    config = configs[first]
    model, backends = config.model, [each.backend for each in configs.values()]
    is_pair = isinstance(model, OwnConfig) and backends[0].name != backends[1].name
    free = is_pair and not model.names
    limit_threads(config.accelerator.threads)
    data = sources.load(config.dataset, config.task)
    check_model(config, data)
    total = make_intervals(config.train, len(data.train)).total
    # Settings of a framework are those of its process; a compiler's threads are not to meet XLA's.
    separate = backends[0].name == backends[1].name or any(one.compile for one in backends)
    separate |= gpu_count() > 0 and config.accelerator.kind.name != "cpu"
    where = "two processes" if separate else "one process"
    print_and_log(
        f"{config.model.name} on {config.dataset.name}, {config.optimizer.name}, "
        f"{config.train.precision.name}: {first} and {second} in lockstep, {total} steps, {where}"
    )

    if isinstance(model, OwnConfig) and is_auto(model):
        if is_pair:
            provide_names(config, lambda: data, folder, None)
        configs = with_names(configs, str(names_in(folder)) if is_pair else None)
    initial = initial_values(configs.values(), data, separate)

    def report(step: int, comparison: Comparison) -> None:
        if step == 0 and free and names_differ(comparison):
            raise NamesDiffer
        if step in (1, 2, 5, 10) or (step and step % max(1, total // 10) == 0):
            loss = comparison.quantities["loss", "loss"].values[step]
            print_and_log(
                f"step {step}/{total}  loss {comparison.losses[first][-1]:.4g} ± {loss:.1e}"
            )

    noise = config.train.precision is not Precision.fp64
    try:
        comparison = compare(configs, separate, report, noise, initial)
    except NamesDiffer:
        path, free = names_in(folder), False
        write_own_names(config, data, path)
        configs = with_names(configs, str(path))
        comparison = compare(configs, separate, report, noise, initial)
    if comparison.parting and not noise:
        # A quantity that is zero except for rounding is pure noise: measure the noise before the verdict.
        print_and_log(
            "again, to measure noise: each beside itself with weights moved by one unit in the last place"
        )
        comparison = compare(configs, separate, report, True, initial)
    return configs[first], comparison


def with_names(configs: Mapping[str, Config], path: str | None) -> dict[str, Config]:
    """Return the configs with another file of names of a user's models."""
    return {
        option: replace(config, model=replace(config.model, names=path))  # pyrefly: ignore[unexpected-keyword]
        for option, config in configs.items()
    }


if __name__ == "__main__":
    fast_exit(main(sys.argv[1:]))
