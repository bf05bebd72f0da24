"""Objective of a search: the metric that also selects the best checkpoint."""

import math
from pathlib import Path

from pipeline.config.experiment import Config
from pipeline.data import sources
from pipeline.storage.run_folder import RunFolder

BEST = "optimization_results.yaml"  # result of a search, named as by Hydra's plugins


def monitored(config: Config) -> tuple[str, str]:
    """Return the metric that a search optimizes, and `maximize` or `minimize`."""
    task = sources.task_of(config.dataset, config.task)
    metric = config.train.monitor or f"val/{task.monitor}"
    return metric, f"{task.direction(metric)}imize"


def objective(folder: Path) -> float | None:
    """Return the objective of the run in a folder: the best value of the monitored metric.

    It is NaN if the run failed or has no such value, and None if the run has not ended.
    """
    result = RunFolder(folder).result
    if result is None or not result.is_over:
        return None
    value = result.best.value if result.best else None
    return math.nan if result.status == "failed" or value is None else float(value)
