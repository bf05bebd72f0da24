"""Resuming or testing a run, with its own saved config and in its own folder."""

import os
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from pipeline.commands import command
from pipeline.config.experiment import Config, Mode, typed
from pipeline.config.hydra_compat import compose_from
from pipeline.config.stored_config import GROUPS, structured
from pipeline.console import print_and_log
from pipeline.errors import UserError
from pipeline.shipped import CONF
from pipeline.storage.checkpoints import (
    Checkpoint,
    checkpoint_at,
    checkpoints_of,
    run_of,
)
from pipeline.storage.names_path import names_in
from pipeline.storage.run_folder import RunFolder
from pipeline.storage.run_identity import IDENTITY, RunIdentity
from pipeline.storage.signature import (
    DATA,
    MEANING,
    NAMES,
    digests_of,
    digests_stored,
    files_of,
    flat,
    signature,
    signature_of,
)

# Keys of a single command: never taken from a saved config.
OF_THE_COMMAND = ("mode", "resume", "checkpoint", "name", "train.stop_after", "sweep")


def overridden_keys(overrides: Sequence[str]) -> list[str]:
    """Return the keys and groups that were set on the command line, as dotted keys."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return [override.key_or_group.replace("/", ".") for override in parsed]


def with_saved_config(composed: DictConfig, path: Path, keys: Sequence[str]) -> DictConfig:
    """Return the saved config of the run at `path`, with the `keys` that this command line set."""
    key = "resume" if composed.resume else "checkpoint"
    config = structured(read_identity(path, key).config)
    return overlaid(config, composed, (*OF_THE_COMMAND, *keys))


def check_resumable(config: Config) -> None:
    """Refuse to resume in a mode that trains nothing, with another optimizer, or with EMA turned on/off."""
    if not config.resume:
        return
    if config.mode is not Mode.train:
        problem = f"mode={config.mode.name} trains nothing, so it resumes nothing"
        hint = "Leave out resume= to test checkpoint=, or mode= and checkpoint= to train on."
        raise UserError("resume", config.resume, problem=problem, hint=hint)
    saved = saved_config(Path(config.resume), "resume")
    if config.backend.name != saved.backend.name:
        return  # `pipeline.run.transfer` checks the state it converts
    backend = config.backend.name
    labels = saved.optimizer.label(backend), config.optimizer.label(backend)
    check_same_optimizer(config.resume, *labels)
    if (saved.train.ema is None) != (config.train.ema is None):
        kind = "null" if saved.train.ema is None else "a number"
        allowed = f"{kind}, as {config.resume} was made with"
        raise UserError("train.ema", config.train.ema, allowed, weights_alone(config.resume))


def check_same_optimizer(source: Path | str, saved: str, wanted: str) -> None:
    """Refuse to resume the state of the optimizer `saved` with another one."""
    if saved != wanted:
        problem = f"{source} holds the state of {saved}"
        raise UserError("optimizer", wanted, problem=problem, hint=weights_alone(source))


def weights_alone(source: Path | str) -> str:
    """Tell how to start from the weights of a run, as a hint."""
    hint = "To change it, start from the weights alone:"
    return f"{hint} {command('convert')} {source} weights.safetensors"


def check_folder_is_free(config: Config, folder: Path) -> None:
    """Refuse a folder that is read-only or in use, or that has checkpoints and is not the run to resume."""
    key = "resume" if config.resume else "hydra.run.dir"
    if RunFolder(folder).running:
        hint = "Wait for it, or stop it first."
        raise UserError(key, folder, problem="this run is still running", hint=hint)
    if folder.is_dir() and not os.access(folder, os.W_OK):
        hint = "Make it writable, or copy the run to another disk."
        raise UserError(key, folder, problem="this folder cannot be written", hint=hint)
    found = checkpoints_of(folder)
    if config.resume and found and found[0].backend == config.backend.name:
        resumed = run_of(Path(config.resume), "resume")
        found = [] if resumed.resolve() == folder.resolve() else found
    if found:
        key = "name" if config.name else "hydra.run.dir"
        hint = "Resume that run with resume=auto, or choose another name."
        problem = f"{folder} holds a run already"
        raise UserError(key, config.name or folder, problem=problem, hint=hint)


def is_complete(config: Config, folder: Path, newest: Checkpoint, total: int) -> bool:
    """Return whether a run to resume in its own folder has no steps left; refuse one past its last step.

    `newest` is its newest checkpoint, `total` the steps of the whole run.
    """
    asked = config.resume
    if newest.step > total:
        problem = f"this run has done {newest.step} of {total} steps: nothing left to train"
        test = f"test it with mode=test checkpoint={asked}"
        hint = f"Set train.steps above {newest.step}, or {test}."
        raise UserError("resume", asked, problem=problem, hint=hint)
    is_own = newest.run.resolve() == folder.resolve() and not checkpoint_at(Path(str(asked)))
    run = RunFolder(folder)
    if not is_own or run.status != "completed":
        return False
    return newest.step == total or run.is_of(signature(config))


def overlaid(config: DictConfig, composed: DictConfig, keys: Sequence[str]) -> DictConfig:
    """Copy some keys and groups of `composed` into `config`, and return it."""
    for key in keys:
        value = OmegaConf.select(composed, key)
        OmegaConf.update(config, key, value, merge=False, force_add=True)
    return config


def composed_of(overrides: Sequence[str]) -> DictConfig:
    """Compose the config of `run.py` with overrides."""
    from hydra import compose

    with compose_from(CONF):
        return compose("config", list(overrides))


def saved_config(path: Path, key: str) -> Config:
    """Return the saved config of a run; see `read_identity`."""
    return typed(structured(read_identity(path, key).config))


def read_identity(path: Path, key: str) -> RunIdentity:
    """Return the identity of the run at `path`, or of a checkpoint in it, which the config key `key` names.

    Raises:
        UserError: it is missing or damaged, its config was edited, or it is to be resumed with a config that
            meant other numbers.
    """
    file = run_of(path, key) / IDENTITY
    identity = RunFolder(file.parent).identity
    if identity is None or not identity.signature or not {*GROUPS} <= {*identity.config}:
        hint = "Restore the file, or name another run."
        raise UserError(key, path, problem=f"{file} is damaged", hint=hint)
    names_changed = note_changed_files(identity, file.parent)
    digests = digests_stored(identity.config, identity.files)
    made_by = {signature_of(identity.config, m, digests): m for m in range(1, MEANING + 1)}
    if identity.signature not in made_by or names_changed:
        others = {
            one: path for one, path in files_of(flat(identity.config)).items() if one == NAMES
        }
        if names_changed and not others:
            others = {NAMES: names_in(file.parent)}
        named = "".join(f", or the file of {one} ({path})," for one, path in others.items())
        edited = f"{file}{named} was"
        problem = f"{edited} edited: its config has another signature"
        hint = "Undo the edit, and set the keys on the command line, as in optimizer.lr=0.01."
        raise UserError(key, path, problem=problem, hint=hint)
    if key == "resume" and made_by[identity.signature] != MEANING:
        problem = "an earlier version of Tandem made it, with the samples in another order"
        raise UserError(key, path, problem=problem, hint=weights_alone(path))
    return identity


def note_changed_files(identity: RunIdentity, folder: Path) -> bool:
    """Tell of data, and of files of the user's own code, that have changed since a run was made.

    Return True if the pairs of names have: then what is stored may not be what they say.
    """
    now = digests_of(identity.config, folder)
    changed = [key for key, digest in (identity.files or {}).items() if now.get(key) != digest]
    for key in changed:
        value = flat(identity.config).get(key)
        if key == DATA:
            print_and_log(f"the data in {key}={value} have changed since this run was made")
        elif key not in (NAMES, "model.weights"):
            print_and_log(f"the file of {key}={value} has changed since this run was made")
    return NAMES in changed
