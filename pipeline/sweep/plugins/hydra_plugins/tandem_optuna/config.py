"""Typed settings of a search, below `hydra.sweeper`, and of its samplers."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from omegaconf import MISSING

from pipeline.config.fields import require
from pipeline.config.hydra_compat import store


class Direction(Enum):
    """Direction of a search: minimize or maximize its metric."""

    minimize = "minimize"
    maximize = "maximize"


@dataclass(kw_only=True)
class SearchConfig:
    """Settings of a search; `conf/hydra/sweeper/optuna.yaml` explains them."""

    _target_: str = "hydra_plugins.tandem_optuna.sweeper.OptunaSweeper"
    _recursive_: bool = False  # the sampler is built anew for each trial
    study_name: str = MISSING
    storage: str = MISSING
    direction: Direction | None = None
    n_trials: int = 20
    n_jobs: int = 1
    max_failure_rate: float = 1.0
    sampler: Any = None
    params: dict[str, Any] | None = None
    custom_search_space: str | None = None

    def __post_init__(self) -> None:
        for name in ("n_trials", "n_jobs"):
            value = getattr(self, name)
            require(value >= 1, f"hydra.sweeper.{name}", value, "a whole number, 1 or more")
        rate = self.max_failure_rate
        require(0 <= rate <= 1, "hydra.sweeper.max_failure_rate", rate, "between 0 and 1")


@dataclass(kw_only=True)
class TPE:
    """Options of `optuna.samplers.TPESampler`; null means Optuna's default."""

    _target_: str = "optuna.samplers.TPESampler"
    seed: int | None = None
    n_startup_trials: int = 10
    n_ei_candidates: int = 24
    multivariate: bool | None = None
    group: bool = False
    constant_liar: bool | None = None
    consider_prior: bool | None = None
    prior_weight: float | None = None
    consider_magic_clip: bool | None = None
    consider_endpoints: bool | None = None
    warn_independent_sampling: bool | None = None


@dataclass(kw_only=True)
class Random:
    """Options of `optuna.samplers.RandomSampler`."""

    _target_: str = "optuna.samplers.RandomSampler"
    seed: int | None = None


@dataclass(kw_only=True)
class CMAES:
    """Options of `optuna.samplers.CmaEsSampler`."""

    _target_: str = "optuna.samplers.CmaEsSampler"
    seed: int | None = None
    x0: dict[str, Any] | None = None
    sigma0: float | None = None
    n_startup_trials: int = 1
    independent_sampler: Any = None
    warn_independent_sampling: bool = True
    consider_pruned_trials: bool = False
    restart_strategy: str | None = None
    popsize: int | None = None
    inc_popsize: int | None = None
    use_separable_cma: bool = False
    with_margin: bool = False
    source_trials: Any = None


@dataclass(kw_only=True)
class NSGAII:
    """Options of `optuna.samplers.NSGAIISampler`."""

    _target_: str = "optuna.samplers.NSGAIISampler"
    seed: int | None = None
    population_size: int = 50
    mutation_prob: float | None = None
    crossover_prob: float = 0.9
    swapping_prob: float = 0.5
    constraints_func: Any = None


# motpe: Optuna's MOTPESampler became part of its TPESampler.
SAMPLERS = {"tpe": TPE, "motpe": TPE, "random": Random, "cmaes": CMAES, "nsgaii": NSGAII}

store("optuna", SearchConfig, "schema/sweeper")
for name, schema in SAMPLERS.items():
    store(name, schema, "hydra/sweeper/sampler")
