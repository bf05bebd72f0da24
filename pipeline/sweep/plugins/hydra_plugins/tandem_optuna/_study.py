"""Optuna study on disk: the experiment that it belongs to, its sampler and its trials."""

import fcntl
import json
import warnings
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from hydra_plugins.tandem_optuna._space import Space
from omegaconf import DictConfig
from optuna.distributions import check_distribution_compatibility
from optuna.samplers import BaseSampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from pipeline.config.experiment import Config, plain
from pipeline.errors import UserError
from pipeline.storage.signature import flat, is_irrelevant

optuna.logging.set_verbosity(optuna.logging.WARNING)  # the search prints its own progress
warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)


def forwarded(method: str) -> Callable[..., Any]:
    """Return a method of `KeyedSampler` that calls the same method of the trial's own sampler.

    Optuna passes the study and the trial to each of them.
    """

    def forward(
        self: "KeyedSampler", study: Study, trial: FrozenTrial, *arguments: object, **named: object
    ) -> Any:
        return getattr(self.sampler_for(trial), method)(study, trial, *arguments, **named)

    return forward


class KeyedSampler(BaseSampler):
    """Wrapper of an Optuna sampler that seeds its random numbers by (seed, number of the trial).

    With one generator for all trials, a resumed search would repeat its first draws. `config` holds the
    import path of the sampler as `_target_`, and its options (null: Optuna's default); its own `seed`, if
    set, replaces the experiment's.
    """

    def __init__(self, config: DictConfig, seed: int) -> None:
        self.build: Callable[..., BaseSampler] = import_object(config["_target_"])
        self.options = {
            str(key): value
            for key, value in config.items()
            if key not in ("_target_", "seed") and value is not None
        }
        self.takes_seed = "seed" in config
        self.seed = seed if config.get("seed") is None else config["seed"]
        self._number: int | None = None
        self._sampler: BaseSampler

    def sampler_for(self, trial: FrozenTrial) -> BaseSampler:
        """Return the sampler of one trial."""
        if trial.number != self._number:
            key = np.random.SeedSequence([self.seed, trial.number])
            seeded = {"seed": int(key.generate_state(1)[0])} if self.takes_seed else {}
            self._number, self._sampler = trial.number, self.build(**self.options, **seeded)
        return self._sampler

    before_trial = forwarded("before_trial")
    infer_relative_search_space = forwarded("infer_relative_search_space")
    sample_relative = forwarded("sample_relative")
    sample_independent = forwarded("sample_independent")
    after_trial = forwarded("after_trial")


def import_object(path: str) -> Any:
    """Import a class or function by its dotted path."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def open_study(
    name: str, storage: str, sampler: BaseSampler, direction: str, config: Config, space: Space
) -> Study:
    """Open the study in a database, or create it; refuse one that belongs to another experiment.

    `storage` is the URL of the database, `direction` is `maximize` or `minimize`, and `config` is the
    config of any trial.
    """
    wanted = StudyDirection[direction.upper()]
    try:
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            sampler=sampler,
            direction=wanted,
            load_if_exists=True,
        )
    except Exception as error:  # the type depends on the database
        if "optuna storage upgrade" in str(error):
            ours = optuna.__version__
            problem = f"the study was written by another version of Optuna, not by {ours}"
            hint = f"Upgrade it: optuna storage upgrade --storage {storage}"
            raise UserError("hydra.sweeper.storage", storage, problem=problem, hint=hint) from error
        allowed = f"the URL of a database ({error})"
        raise UserError("hydra.sweeper.storage", storage, allowed) from error
    experiment = digest(config, space)
    if not study.trials:
        study.set_user_attr("experiment", experiment)
    is_same = study.user_attrs["experiment"] == experiment and study.direction is wanted
    try:  # the bounds of an interval may differ
        for trial in study.trials:
            for key in trial.distributions.keys() & space.keys():
                check_distribution_compatibility(trial.distributions[key], space[key])
    except ValueError:
        is_same = False
    if not is_same:
        problem = (
            f"the study {name} in {storage} has other settings or another search space, "
            "so its trials cannot be compared with new ones"
        )
        raise UserError("name", config.name, problem=problem, hint="Choose another name.")
    return study


def digest(config: Config, searched: Iterable[str]) -> str:
    """Hash the settings that all trials share, without those that cannot change a result."""
    common = {
        key: value
        for key, value in flat(plain(config)).items()
        if not is_irrelevant(key) and not any(f"{key}.".startswith(f"{name}.") for name in searched)
    }
    return sha256(json.dumps(common, sort_keys=True).encode()).hexdigest()[:16]


def trials_in(study: Study, *states: TrialState) -> list[FrozenTrial]:
    """List the trials in some states; a trial without a value yet is `RUNNING`."""
    return study.get_trials(deepcopy=False, states=states)


def enqueue_failed(study: Study) -> None:
    """Queue the values of failed trials again, as new trials, before any others."""
    known = trials_in(study, TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING)
    # A trial that is still queued has no `params` yet.
    settled = [trial.params or trial.system_attrs.get("fixed_params", {}) for trial in known]
    for trial in trials_in(study, TrialState.FAIL):
        if trial.params not in settled:
            settled.append(trial.params)
            study.enqueue_trial(trial.params)


@contextmanager
def lock_folder(folder: Path) -> Generator[None]:
    """Lock a folder against a second search; the kernel releases the lock when this process ends."""
    with (folder / ".search.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            problem = "another search is running in its folder"
            hint = "For trials in parallel: hydra/launcher=joblib hydra.sweeper.n_jobs=N."
            raise UserError("name", folder.name, problem=problem, hint=hint) from error
        yield
