"""Hydra plugin for searches; Optuna is imported when a search begins."""

from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra_plugins.tandem_optuna.config import SearchConfig
from omegaconf import DictConfig

from pipeline.errors import UserError


class OptunaSweeper(Sweeper):
    """Hydra sweeper for searches, on top of `Search`; its settings are those of `SearchConfig`."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Check the settings and make the launcher."""
        settings = SearchConfig(**self.settings)
        from pipeline.sweep.sweeper import make_launcher

        try:
            from hydra_plugins.tandem_optuna._search import Search
        except ImportError as error:
            hint = "Install it: pip install -e '.[optuna]'"
            raise UserError("hydra/sweeper", "optuna", f"installed ({error})", hint) from error
        launcher = make_launcher(hydra_context, task_function, config)
        self.search = Search(settings, hydra_context.config_loader, launcher, config)

    def sweep(self, arguments: list[str]) -> None:
        """Run the unfinished trials."""
        self.search.run(arguments)
