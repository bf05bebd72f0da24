"""What the jobs of a sweep are called: by what differs between them."""

import os
import re
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from pipeline.precheck import check_job
from pipeline.prospects import place
from pipeline.runs import irrelevant

# In the environment: how a sweep tells its jobs who they are.
GROUP, NAME, SWEPT = "TANDEM_GROUP", "TANDEM_JOB", "TANDEM_SWEPT"
SETTING = "TANDEM_SETTING"


def swept_keys(arguments: Sequence[str]) -> list[str]:
    """The keys that differ between the jobs of a sweep."""
    overrides = [argument for argument in arguments if "=" in argument and argument[0] != "-"]
    parsed = OverridesParser.create().parse_overrides(overrides)
    return [override.key_or_group for override in parsed if override.is_sweep_override()]


def differing(overrides: Sequence[str]) -> list[str]:
    """Those overrides of a job that differ between jobs; where a sweeper chose them, all that matter."""
    swept = [key for key in os.environ.get(SWEPT, "").split(",") if key]
    keys = {override: override.partition("=")[0].lstrip("+") for override in overrides}
    chosen = [override for override in overrides if keys[override] in swept]
    return chosen or [override for override in overrides if not irrelevant(keys[override])]


def setting_of(overrides: Sequence[str]) -> str:
    """What tells a job from the others of its sweep, backend and seed apart."""
    return " ".join(
        override
        for override in differing(overrides)
        if override.partition("=")[0] not in ("backend", "seed")
    )


def job_folder(number: int, overrides: Sequence[str]) -> str:
    """A job's folder in its sweep: unique by its number, readable by what differs."""
    words = re.sub(r"[^\w.=+-]+", "-", "_".join(differing(overrides)))
    return f"{number}_{words[:120]}".rstrip("_")


def folder_of_job(number: int, overrides: Sequence[str], *, _root_: DictConfig) -> str:
    """The folder that Hydra makes for a job: the one that it had before, if the sweep knows it."""
    try:
        config = check_job(deepcopy(_root_))
    except Exception:
        config = None  # told at the job's turn
    return place(Path(_root_.hydra.sweep.dir), job_folder(number, overrides), config).name


OmegaConf.register_new_resolver("job_folder", folder_of_job, replace=True)
