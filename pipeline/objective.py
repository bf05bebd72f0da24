"""What a search over configurations makes better: the metric that also says which checkpoint is best."""

import math
from pathlib import Path

from omegaconf import OmegaConf

from pipeline import datasets
from pipeline.announce import number
from pipeline.config import DatasetConfig
from pipeline.metrics import MONITOR
from pipeline.runs import RESULT, read_json

BEST = "optimization_results.yaml"  # of a search; the name that Hydra's plugins give it


def monitored(dataset: DatasetConfig) -> tuple[str, str]:
    """The metric of a search on a data set, and whether Optuna is to maximize or minimize it."""
    metric, mode = MONITOR[datasets.task(dataset)]
    return metric, f"{mode}imize"


def objective(folder: Path) -> float | None:
    """How good the run in a folder is: what a job of a sweep returns to Hydra.

    Returns:
        The best value of the monitored metric; NaN for a run that failed or has none; None for one
        that has not come to its end.
    """
    result = read_json(folder / RESULT) or {}
    if result.get("status") not in ("completed", "failed"):
        return None
    value = (result.get("best") or {}).get("value")
    return math.nan if result["status"] == "failed" or value is None else float(value)


def tell_best(folder: Path) -> bool:
    """Print the best parameters that a search has found, as they would be typed.

    Returns:
        Whether there are any: not where no trial was completed, nor in a sweep that is no search.
    """
    if not (folder / BEST).exists():
        return False
    best = OmegaConf.load(folder / BEST)
    words = " ".join(f"{name}={value}" for name, value in best.best_params.items())
    print(f"best: {best.metric} {number(best.best_value)} of trial {best.trial}: {words}")
    return True
