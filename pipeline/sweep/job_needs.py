"""Data and GPUs that a job of a sweep needs: what is missing is known before the first job starts."""

import os

from omegaconf import DictConfig

from pipeline.config.accelerator import Kind
from pipeline.config.checks.data_paths import missing_data
from pipeline.config.experiment import Config
from pipeline.devices.hardware import may_have_gpu
from pipeline.errors import UserError

LOCAL = ("basic", "joblib")  # launchers whose jobs run on this machine


def missing_need(config: Config, sweep: DictConfig) -> UserError | None:
    """Make the error for what a job needs and this machine does not have; None if it may run."""
    return missing_data(config.dataset) or missing_gpu(config, sweep)


def missing_gpu(config: Config, sweep: DictConfig) -> UserError | None:
    """Make the error for `accelerator=gpu` on this machine without one; None if jobs run elsewhere.

    A platform of JAX that the user has chosen may be any.
    """
    launcher = sweep.hydra.runtime.choices["hydra/launcher"]
    is_asked = config.accelerator.kind is Kind.gpu and launcher in LOCAL
    if not is_asked or may_have_gpu() or os.environ.get("JAX_PLATFORMS"):
        return None
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    reason = "" if hidden is None else f", with CUDA_VISIBLE_DEVICES='{hidden}'"
    problem = f"no GPU is visible on this machine{reason}"
    hint = "Set accelerator=cpu, or hydra/launcher=slurm to run the jobs on machines with GPUs."
    return UserError("accelerator.kind", "gpu", problem=problem, hint=hint)
