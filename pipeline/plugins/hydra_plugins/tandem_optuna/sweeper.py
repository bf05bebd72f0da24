"""What Hydra finds at every start: nothing is imported before a search begins."""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from pipeline.errors import UserError


class OptunaSweeper(Sweeper):
    """Hydra's sweeper for searches; `Search` does the work.

    Args:
        settings: below `hydra.sweeper`, as `conf/hydra/sweeper/optuna.yaml` has them.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra gives to every sweeper.

        Raises:
            UserError: Optuna is not installed.
        """
        try:
            from hydra_plugins.tandem_optuna._search import Search
        except ImportError as error:
            hint = "Install it: pip install -e '.[optuna]'"
            raise UserError("hydra/sweeper", "optuna", f"installed ({error})", hint) from error
        self.search = Search(**self.settings)
        self.search.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> None:
        """Run the trials that are not done yet."""
        self.search.sweep(arguments)
