"""A sampler whose draws do not depend on when a search was stopped."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState


class KeyedSampler(BaseSampler):
    """Any sampler of Optuna, its random numbers keyed by (seed, number of the trial).

    With one generator for all trials, a search that is gone on with would draw its first points
    again.

    Args:
        config: of the sampler; its own `seed`, where it has one, comes first.
        seed: of the experiment.
    """

    def __init__(self, config: DictConfig, seed: int) -> None:
        self.config = config
        self.seed = seed if config.get("seed") is None else config.seed
        self._number, self._sampler = None, None

    def of(self, trial: FrozenTrial) -> BaseSampler:
        """The sampler of one trial."""
        if trial.number != self._number:
            key = np.random.SeedSequence([self.seed, trial.number])
            seeded = {"seed": int(key.generate_state(1)[0])} if "seed" in self.config else {}
            self._number, self._sampler = trial.number, instantiate(self.config, **seeded)
        return self._sampler

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Of the parameters that are drawn together."""
        return self.of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw the parameters that are drawn together."""
        return self.of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw one parameter."""
        return self.of(trial).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """Take note of what came of a trial."""
        self.of(trial).after_trial(study, trial, state, values)
