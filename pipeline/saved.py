"""Going on from a run, or testing one: its own saved config, and its own folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from pipeline.arguments import RUN_FOLDER, quoted
from pipeline.checkpoints import checkpoints_of, run_of
from pipeline.config import SCHEMAS, Config, typed
from pipeline.errors import UserError
from pipeline.runs import IDENTITY, RunFolder, read_json, signature
from pipeline.world import find_world

OUTPUTS = Path("outputs")

# What belongs to one command and not to the experiment, so is not taken from a saved config.
OF_THE_COMMAND = ("mode", "resume", "checkpoint", "name", "train.stop_after", "sweep")


def given(overrides: Sequence[str]) -> list[str]:
    """The keys and groups that were set on the command line, as dotted keys."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return [override.key_or_group.replace("/", ".") for override in parsed]


def with_saved_config(composed: DictConfig, path: Path, keys: Sequence[str]) -> DictConfig:
    """The config that a run was made with, and over it what was given on the command line.

    Args:
        composed: the config of this command.
        path: of the run, or of a checkpoint in it.
        keys: that the command line set.

    Raises:
        UserError: there is no run at `path`.
    """
    key = "resume" if composed.resume else "checkpoint"
    config = structured(identity_of(path, key)["config"])
    return overlaid(config, composed, (*OF_THE_COMMAND, *keys))


def check_resumable(config: Config) -> None:
    """Refuse to go on, on the same backend, with what its checkpoints do not hold.

    Raises:
        UserError: the optimizer is another, or an average of the weights was not kept.
    """
    if not config.resume:
        return
    saved = identity_of(Path(config.resume), "resume")["config"]
    if config.backend.name != saved["backend"]["name"]:
        return  # `pipeline.crossing` sees to that
    hint = (
        "To change it, start from the weights alone: "
        f"python -m pipeline.convert {config.resume} weights.safetensors"
    )
    wanted, had = config.optimizer.name, saved["optimizer"]["name"]
    if wanted != had:
        raise UserError("optimizer", wanted, f"{had}, whose state {config.resume} holds", hint)
    averaged = saved["train"]["ema"] is not None
    if averaged != (config.train.ema is not None):
        allowed = f"{'a number' if averaged else 'null'}, as {config.resume} was made with"
        raise UserError("train.ema", config.train.ema, allowed, hint)


def overlaid(config: DictConfig, composed: DictConfig, keys: Sequence[str]) -> DictConfig:
    """A config with some keys and groups of another."""
    for taken in keys:
        value = OmegaConf.select(composed, taken)
        OmegaConf.update(config, taken, value, merge=False, force_add=True)
    return config


def composed_of(overrides: Sequence[str]) -> DictConfig:
    """The config that `run.py` would compose of overrides."""
    from hydra import compose, initialize_config_dir

    root = Path(__file__).resolve().parent.parent
    with initialize_config_dir(str(root / "conf"), version_base="1.3"):
        return compose("config", list(overrides))


def saved_config(path: Path, key: str) -> Config:
    """The config that a run was made with.

    Args:
        path: of the run, or of a checkpoint in it.
        key: of the configuration that asks.

    Raises:
        UserError: there is no run at `path`.
    """
    return typed(structured(identity_of(path, key)["config"]))


def structured(saved: Mapping[str, Any]) -> DictConfig:
    """A config as it was saved, with its schemas."""
    config = OmegaConf.structured(Config)
    for group, schemas in SCHEMAS.items():
        schema = schemas.get(saved[group]["name"], schemas.get("images"))
        config[group] = OmegaConf.structured(schema)
    return OmegaConf.merge(config, saved)


def identity_of(path: Path, key: str) -> dict[str, Any]:
    """What `run.json` says of the run at `path`.

    Raises:
        UserError: there is none that can be read.
    """
    identity = read_json(run_of(path, key) / IDENTITY)
    if identity is None:
        raise UserError(key, path, f"a run whose {IDENTITY} is whole", "Name another one.")
    return identity


def resumed_arguments(arguments: list[str]) -> list[str]:
    """The command line with `resume=auto` or `resume=PATH` made into a run and its folder.

    A resumed run goes on in its own folder, which Hydra has to be told before it starts; on another
    backend in a new one, as any run.

    Raises:
        UserError: there is no run at PATH.
    """
    wanted = [argument for argument in arguments if argument.startswith("resume=")]
    if not wanted or wanted[-1] in ("resume=null", "resume="):
        return arguments
    rest = [argument for argument in arguments if argument not in wanted]
    if is_sweep(arguments):
        return arguments  # each job's own process does this for itself
    path = wanted[-1].removeprefix("resume=").strip("'\"")
    run = unfinished_run(rest) if path == "auto" else run_of(Path(path), "resume")
    if run is None:
        print("resume=auto: no unfinished run of this experiment, starting from scratch")
        return rest
    target = run if path == "auto" else path
    if crosses(run, rest):
        return [*rest, f"resume={quoted(target)}"]
    rest = [argument for argument in rest if not argument.startswith(RUN_FOLDER)]
    return [*rest, f"resume={quoted(target)}", f"{RUN_FOLDER}{quoted(run)}"]


def crosses(run: Path, arguments: Sequence[str]) -> bool:
    """Whether a run is to go on with on another backend, and so in a folder of its own."""
    named = [argument for argument in arguments if argument.startswith("backend=")]
    own = identity_of(run, "resume")["config"]["backend"]["name"]
    return bool(named) and named[-1].removeprefix("backend=").strip("'\"") != own


def is_sweep(arguments: Sequence[str]) -> bool:
    """Whether the command line asks for several jobs."""
    return any(argument in ("-m", "--multirun", "hydra.mode=MULTIRUN") for argument in arguments)


def unfinished_run(arguments: list[str]) -> Path | None:
    """The run that `resume=auto` goes on with: of the folder or name given, or else of the signature.

    Returns:
        None where there is none with a checkpoint yet.
    """
    named = {key: value for key, _, value in (argument.partition("=") for argument in arguments)}
    if "hydra.run.dir" in named or "name" in named:
        run = Path((named.get("hydra.run.dir") or f"{OUTPUTS}/{named['name']}").strip("'\""))
        return run if checkpoints_of(run) else None
    overrides = [argument for argument in arguments if not argument.startswith(("-", "hydra"))]
    return resumable_run(OUTPUTS, signature(typed(composed_of(overrides))))


def resumable_run(outputs: Path, wanted: str) -> Path | None:
    """The newest run below `outputs` of this signature that has stopped on its way."""
    runs = [file.parent for file in outputs.glob(f"**/{IDENTITY}")]
    return max((run for run in runs if unfinished(run, wanted)), key=last_written, default=None)


def unfinished(run: Path, wanted: str) -> bool:
    """Whether a run is of this signature, has a checkpoint, and is neither completed nor at work."""
    known, result = read_json(run / IDENTITY), RunFolder(run).result
    completed = result is not None and result["status"] == "completed"
    ours = known is not None and known["signature"] == wanted
    # The first process of this run may have begun with it already.
    busy = find_world().first and RunFolder(run).running
    return ours and not completed and bool(checkpoints_of(run)) and not busy


def last_written(run: Path) -> float:
    """When a run was started or gone on with, in seconds since the epoch."""
    return (run / IDENTITY).stat().st_mtime
