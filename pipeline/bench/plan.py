"""Plan of a benchmark: the overrides of its experiment, and the backends, precisions and batch sizes."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser

from pipeline.backend_specs import BACKENDS
from pipeline.bench.machine import lacks
from pipeline.child_command import quoted
from pipeline.config.checks.keys import config_groups, every_key, options_of
from pipeline.config.checks.open_keys import check_open_keys
from pipeline.config.checks.suggestions import nearest
from pipeline.config.checks.validate import check_arguments, validate_config
from pipeline.config.experiment import Config, register
from pipeline.config.fields import require
from pipeline.config.hydra_compat import compose_from
from pipeline.config.models import OwnConfig
from pipeline.devices.device_count import usable_gpus
from pipeline.errors import UserError
from pipeline.run.resume import overridden_keys
from pipeline.shipped import CONF
from pipeline.storage.names_path import is_auto

# Overrides of each precision.
PRECISIONS = {
    "fp32": ("train.precision=fp32", "accelerator.matmul_precision=highest"),
    "tf32": ("train.precision=fp32", "accelerator.matmul_precision=tf32"),
    "bf16": ("train.precision=bf16",),
    "fp64": ("train.precision=fp64",),
}
LARGEST = 2**20  # samples of a batch, unless `batch_sizes` says so

# Keys of a benchmark, which are no keys of an experiment.
OWN = ("backends", "precisions", "batch_sizes", "seconds")

# Keys that a benchmark does not support, with a hint.
IGNORED = {
    "backend": "Set backends=torch,jax.",
    "train.batch_size": "Set batch_sizes=32,64.",
    "train.precision": "Set precisions=fp32,bf16.",
    "accelerator.matmul_precision": "Set precisions=fp32,tf32.",
    "hydra": "Name the folder with name=NAME: it is outputs/NAME.",
    "logger": "Leave it out: a benchmark logs nothing.",
    **dict.fromkeys(("train.steps", "train.epochs"), "Set seconds=NUMBER, of each measurement."),
    **dict.fromkeys(("mode", "resume", "checkpoint"), "Leave it out: a benchmark trains."),
}


@dataclass(frozen=True)
class Plan:
    """Overrides of an experiment and what is measured of it; see `DESCRIPTION` of the command.

    `seconds` are the most that the turns at one batch size take. None for what was not set.
    """

    overrides: Sequence[str]
    folder: str | None = None  # options of the user's own
    backends: Sequence[str] | None = None
    precisions: Sequence[str] | None = None
    batch_sizes: Sequence[int] | None = None
    seconds: float = 20.0
    name: str | None = None  # of the folder below outputs/
    layers: bool = False  # also time the layers, at the batch size nearest to the experiment's own

    def config(self, backend: str, precision: str = "fp32") -> Config:
        """Compose the experiment on a backend, without an end: nothing is evaluated or saved."""
        search = []
        if self.folder is not None:
            require(Path(self.folder).is_dir(), "--config-dir", self.folder, "an existing folder")
            search = [f"hydra.searchpath=[{quoted(f'file://{Path(self.folder).resolve()}')}]"]
        chosen = [f"backend={backend}", "logger=none", *PRECISIONS[precision]]
        register()
        given = [*search, *self.overrides, *chosen]
        with compose_from(CONF):
            check_open_keys(given)
            config = validate_config(compose("config", given))
        for key in ("devices", "nodes"):
            value = getattr(config.accelerator, key)
            allowed = "1: a benchmark measures one device of each backend"
            require(value == 1, f"accelerator.{key}", value, allowed)
        train = config.train
        endless = train.log_every * 10**7
        train = replace(
            train, steps=endless, eval_every=f"{endless}steps", stop_after=None, profile=None
        )
        model = config.model
        if isinstance(model, OwnConfig) and is_auto(model):
            model = replace(
                model, names=None
            )  # each backend has its own weights, and needs no names
        return replace(config, train=train, model=model)

    def chosen_backends(self) -> list[str]:
        """Return the backends: those that were named, or all options of the config group."""
        if self.backends is not None:
            return list(self.backends)
        order = [*BACKENDS]

        def place(option: str) -> tuple[int, str]:
            known = [at for at, name in enumerate(order) if re.match(rf"{name}(_|$)", option)]
            return (known[0] if known else len(order), option)

        return sorted(options_of("backend"), key=place)

    def chosen_precisions(self, config: Config) -> list[str]:
        """Return the precisions: those that were named, or those that the device is good at."""
        if self.precisions is not None:
            return list(self.precisions)
        on_gpu = bool(usable_gpus(config))
        return [name for name in ("fp32", "tf32", "bf16") if not lacks(name, on_gpu)]

    def sizes(self, accumulate: int) -> Iterator[int]:
        """Yield the batch sizes: those that were set, or the powers of two that `accumulate` divides."""
        if self.batch_sizes is not None:
            yield from sorted(set(self.batch_sizes))
            return
        size = 1
        while size <= LARGEST:
            if size % accumulate == 0:
                yield size
            size *= 2

    def layers_at(self, batch: int, accumulate: int) -> int | None:
        """Return the batch size at which layers are timed: the nearest to the experiment's own, if any."""
        sizes = self.sizes(accumulate) if self.layers else ()
        return min(sizes, key=lambda size: abs(math.log(size / batch)), default=None)


def make_plan(arguments: Sequence[str], folder: str | None = None, layers: bool = False) -> Plan:
    """Make the plan of a command line, or refuse it; `folder` has options of the user's own."""
    own = [argument for argument in arguments if argument.partition("=")[0] in OWN]
    overrides = [argument for argument in arguments if argument not in own]
    check_arguments(overrides)
    known = {*config_groups(), *(key.path.partition(".")[0] for key in every_key())}
    for key in overridden_keys(overrides):
        close = nearest(key, ("layers", *OWN)) if key.partition(".")[0] not in known else None
        if close:
            hint = f"Add --{close}." if close == "layers" else f"Did you mean {close}?"
            raise UserError(key, "…", "a key of a benchmark or of run.py", hint)
        for ignored, hint in IGNORED.items():
            if key == ignored or key.startswith(f"{ignored}."):
                raise UserError(key, "…", hint=hint, problem="has no effect on a benchmark")
    for one in OverridesParser.create().parse_overrides(overrides):
        if one.is_sweep_override():
            hint = "A benchmark is of one experiment; a list is [A,B]."
            raise UserError(one.key_or_group, one.get_value_string(), "one value", hint)
    named = [one for one in overrides if one.startswith("name=")]
    given = {key: value.strip("[]") for key, _, value in (one.partition("=") for one in own)}
    seconds = number(given.get("seconds", "20"))
    require(0 < seconds < inf, "seconds", given.get("seconds"), "a number above 0")
    return Plan(
        overrides,
        folder,
        choices(given, "backends", options_of("backend")),
        choices(given, "precisions", [*PRECISIONS]),
        batch_sizes(given.get("batch_sizes")),
        seconds,
        named[-1].removeprefix("name=").strip("'\"") if named else None,
        layers,
    )


def choices(given: dict[str, str], key: str, allowed: Sequence[str]) -> list[str] | None:
    """Parse a list of options; None if it is not given."""
    if key not in given:
        return None
    named = [*dict.fromkeys(one.strip() for one in given[key].split(","))]
    for one in named:
        require(one in allowed, key, one, f"one or more of {', '.join(allowed)}")
    return named


def batch_sizes(text: str | None) -> list[int] | None:
    """Parse a list of batch sizes; None if it is not given."""
    if text is None:
        return None
    sizes = [number(one) for one in text.split(",")]
    whole = all(size >= 1 and size % 1 == 0 for size in sizes)
    require(whole, "batch_sizes", text, "whole numbers, at least 1, like 32,64")
    return [int(size) for size in sizes]


def number(text: str) -> float:
    """Parse a number; NaN if it is none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")
