"""Checks of a run that need its composed config, made before Hydra creates the run's folder."""

import os
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import ClassVar, NoReturn, cast

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict, read_write

from pipeline.config.checks.hydra_errors import to_user_error
from pipeline.config.checks.open_keys import check_open_keys
from pipeline.config.checks.validate import validate_config
from pipeline.config.experiment import Config, Mode, typed
from pipeline.config.fields import require
from pipeline.devices.device_count import check_device_count
from pipeline.devices.world import find_world
from pipeline.errors import CommandRefused, UserError
from pipeline.job_context import job_context
from pipeline.run import resume
from pipeline.storage.run_folder import RunFolder


class CheckBeforeRun(Callback):
    """Hydra callback that refuses a run before its folder is created or written to."""

    checked: ClassVar[tuple[Config, DictConfig]]  # config that passed, typed and composed

    def on_run_start(self, config: DictConfig, **kwargs: object) -> None:
        """Check the composed config."""
        folder = None
        try:
            folder = output_folder(config)
            own = copy(config)
            with open_dict(own):
                own.pop("hydra")
            given = config.hydra.overrides
            checked = checked_config(own, as_given(given.task))
            if not job_context().name:
                check_single_run(checked[0], as_given(given.hydra))
            if find_world().is_main:
                resume.check_folder_is_free(checked[0], folder)
            CheckBeforeRun.checked = checked
        except Exception as error:
            if folder:
                note_failed_job(folder, error)
            raise CommandRefused(error) from error

    def on_multirun_start(self, config: DictConfig, **kwargs: object) -> None:
        """Check that the sweep has a folder."""
        try:
            require_folder("hydra.sweep.dir", config.hydra.sweep.dir)
        except Exception as error:
            raise CommandRefused(error) from error


def output_folder(config: DictConfig) -> Path:
    """Return the folder of the run, and set it for `${hydra:…}` as Hydra does when it creates it."""
    HydraConfig.instance().set_config(config)
    folder = os.path.abspath(require_folder("hydra.run.dir", config.hydra.run.dir))
    with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
        config.hydra.runtime.output_dir = folder
    HydraConfig.instance().set_config(config)
    return Path(folder)


def as_given(overrides: ListConfig) -> list[str]:
    """Return overrides with `${…}` as it is given."""
    return [str(override) for override in cast("list", OmegaConf.to_container(overrides))]


def require_folder(key: str, folder: object) -> str:
    """Return a folder as text, and refuse an empty one."""
    require(bool(folder), key, "''", "a folder", f"Set {key}=FOLDER, or leave it out.")
    return str(folder)


def note_failed_job(folder: Path, error: Exception) -> None:
    """Write an error to the result of a sweep's job; no effect outside a sweep."""
    name = job_context().name
    if name and find_world().is_main:
        run = RunFolder(folder)
        if run.status != "completed":
            folder.mkdir(parents=True, exist_ok=True)
            run.write_failure(str(to_user_error(error)), name)


def checked_config(composed: DictConfig, overrides: Sequence[str]) -> tuple[Config, DictConfig]:
    """Return the config of a run, typed and composed; a resumed or tested run merges its saved config.

    Raises:
        UserError: a value is out of range, or values do not fit each other or this machine.
    """
    check_open_keys(overrides)
    config = validate_config(composed)
    if path := config.resume or config.checkpoint:
        composed = resume.with_saved_config(composed, Path(path), resume.overridden_keys(overrides))
        config = typed(composed)
        resume.check_resumable(config)
    check_mode(config)
    check_device_count(config, find_world())
    return config, composed


def check_single_run(config: Config, hydra: Sequence[str]) -> None:
    """Refuse what is of a sweep alone; `hydra` are the overrides of Hydra's own config."""

    def refuse(key: str, value: str, fact: str, hint: str) -> NoReturn:
        raise UserError(key, value, problem=f"{fact}, and this is no sweep", hint=hint)

    for key, _, value in (override.partition("=") for override in hydra):
        if key.lstrip("+") in ("hydra/launcher", "hydra/sweeper"):
            refuse(key, value, "it starts the jobs of a sweep", "Add -m.")
    if config.sweep.dry_run:
        hint = "Add -m, or see the config of a run with --cfg=job."
        refuse("sweep.dry_run", "true", "a dry run shows the jobs of a sweep", hint)
    if config.sweep.vectorize:
        hint = "Add -m, or leave it out."
        refuse("sweep.vectorize", "true", "jobs of a sweep train at once", hint)


def check_mode(config: Config) -> None:
    """Check that `mode=test` and `checkpoint` are set together."""
    given = config.checkpoint
    if config.mode is Mode.test:
        allowed = "a run or a checkpoint when mode=test"
        require(bool(given), "checkpoint", None, allowed, "Set checkpoint=PATH.")
    elif given:
        problem = f"mode={config.mode.name} takes no checkpoint"
        hint = "Set mode=test to evaluate it, or resume=PATH to continue training from it."
        raise UserError("checkpoint", given, problem=problem, hint=hint)
