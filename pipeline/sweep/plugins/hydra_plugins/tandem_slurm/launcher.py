"""Hydra plugin for Slurm; its imports are deferred until a sweep begins."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from pipeline.errors import UserError


class SlurmLauncher(Launcher):
    """Hydra launcher for clusters, on top of `Submission`; see `conf/hydra/launcher/slurm.yaml`."""

    awaits_running = True  # it waits for jobs that are already running, unlike local launchers

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Prepare the submission of a sweep."""
        if find_spec("submitit") is None:
            hint = "Install it: pip install -e '.[slurm]'"
            raise UserError("hydra/launcher", "slurm", "installed", hint)
        from hydra_plugins.tandem_slurm._submission import Submission

        self.submission = Submission(self.settings, hydra_context, config)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Submit the jobs of a sweep, and wait until they have ended."""
        return self.submission.launch(job_overrides, initial_job_idx)
