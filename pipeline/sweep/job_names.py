"""Names of the jobs of a sweep, made of the overrides that differ between them."""

import re
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from omegaconf import DictConfig

from pipeline.config.checks.validate import validate_job_config
from pipeline.config.experiment import REPEATS
from pipeline.config.hydra_compat import register_resolver
from pipeline.errors import UserError
from pipeline.job_context import job_context
from pipeline.storage.signature import is_irrelevant
from pipeline.sweep.job_status import job_folder_for


def swept_keys(arguments: Sequence[str]) -> list[str]:
    """Return the keys that differ between the jobs of a sweep."""
    overrides = [argument for argument in arguments if "=" in argument and argument[0] != "-"]
    parsed = OverridesParser.create().parse_overrides(overrides)
    return [override.key_or_group for override in parsed if override.is_sweep_override()]


def check_values(override: Override) -> None:
    """Refuse a sweep without values: an empty range or glob."""
    if not override.is_sweep_override() or override.is_interval_sweep():
        return
    key, _, text = str(override.input_line).partition("=")
    try:
        is_empty = not any(True for _ in override.sweep_iterator())
    except ValueError as error:  # step 0
        raise UserError(key, text, problem=f"it has no values: {error}") from error
    if is_empty:
        problem, hint = "it has no values", ""
        if isinstance(override.value(), Glob):
            problem = "no option of a config group has such a name"
            hint = f"List the values: {key}=A,B."
        raise UserError(key, text, problem=problem, hint=hint)


def differing(overrides: Sequence[str]) -> list[str]:
    """Return the overrides of a job that differ between jobs; all relevant ones if a sweeper chose them."""
    swept = job_context().swept
    keys = {override: override.partition("=")[0].lstrip("+") for override in overrides}
    chosen = [override for override in overrides if keys[override] in swept]
    return chosen or [override for override in overrides if not is_irrelevant(keys[override])]


def setting_of(overrides: Sequence[str]) -> str:
    """Return the overrides that differ between jobs, without backend, seed and fold."""
    kept = [o for o in differing(overrides) if o.partition("=")[0] not in ("backend", *REPEATS)]
    return " ".join(kept)


def job_folder(number: int, overrides: Sequence[str]) -> str:
    """Return the folder name of a job: its number, then the overrides that differ between jobs."""
    words = re.sub(r"[^\w.=+-]+", "-", "_".join(differing(overrides)))
    return f"{number}_{words[:120]}".rstrip("_")


def folder_of_job(number: int, overrides: Sequence[str], *, _root_: DictConfig) -> str:
    """Return the folder name of a job for Hydra: an earlier attempt's, if there is one."""
    try:
        config = validate_job_config(deepcopy(_root_))
    except Exception:
        config = None  # reported when the job starts
    return job_folder_for(Path(_root_.hydra.sweep.dir), job_folder(number, overrides), config).name


register_resolver("job_folder", folder_of_job)
