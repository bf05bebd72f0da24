"""Hydra plugin for sweeps over a grid; its imports are deferred until a sweep begins."""

from functools import partial

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GridSweeper(Sweeper):
    """Hydra sweeper over all combinations of values, on top of `run_grid`.

    Args:
        max_batch_size: jobs that the launcher gets at a time; null for all.
        params: preset sweeps by key; the command line overrides them.
    """

    def __init__(self, max_batch_size: int | None, params: DictConfig | None) -> None:
        self.max_batch_size, self.params = max_batch_size, params

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Make the launcher."""
        from pipeline.sweep.sweeper import make_launcher, run_grid

        launcher = make_launcher(hydra_context, task_function, config)
        loader = hydra_context.config_loader
        self.run = partial(run_grid, loader, launcher, config, self.max_batch_size)

    def sweep(self, arguments: list[str]) -> None:
        """Run the jobs that are not finished."""
        preset = [f"{key}={value}" for key, value in (self.params or {}).items()]
        self.run([*preset, *arguments])
