"""What Hydra finds at every start: nothing is imported before a sweep begins."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from pipeline.errors import UserError


class SlurmLauncher(Launcher):
    """Hydra's launcher for clusters; `Submission` does the work.

    Args:
        settings: below `hydra.launcher`, as `conf/hydra/launcher/slurm.yaml` has them.

    Attributes:
        awaits_running: that jobs which run already are waited for, as launchers on this machine
            do not.
    """

    awaits_running = True

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra gives to every launcher.

        Raises:
            UserError: submitit is not installed.
        """
        if find_spec("submitit") is None:
            raise UserError(
                "hydra/launcher", "slurm", "installed", "Install it: pip install -e '.[slurm]'"
            )
        from hydra_plugins.tandem_slurm._submission import Submission

        self.submission = Submission(self.settings, hydra_context, config)

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Submit the jobs of a sweep, and wait until they are done."""
        return self.submission.launch(job_overrides, initial_job_idx)
