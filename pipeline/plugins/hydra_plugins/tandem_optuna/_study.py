"""The study on disk: whose it is, and what it still has to do."""

import fcntl
import json
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import optuna
from hydra_plugins.tandem_optuna._space import Space
from optuna.distributions import check_distribution_compatibility
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from pipeline.config import Config, plain
from pipeline.config.fields import require
from pipeline.errors import UserError
from pipeline.runs import flat, irrelevant

optuna.logging.set_verbosity(optuna.logging.WARNING)  # what there is to tell is told by the search
warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # it has stayed as it was


def open_study(
    name: str, storage: str, sampler: BaseSampler, direction: str, config: Config, space: Space
) -> Study:
    """The study in a database, made where there is none.

    Args:
        name: of the study.
        storage: URL of the database.
        sampler: draws the trials.
        direction: maximize or minimize.
        config: of any of the trials.
        space: that they are drawn from.

    Raises:
        UserError: the database cannot be used, or it holds the study of another experiment.
    """
    try:
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            sampler=sampler,
            direction=direction,
            load_if_exists=True,
        )
    except Exception as error:  # every database has its own
        raise UserError(
            "hydra.sweeper.storage", storage, f"the URL of a database ({error})"
        ) from error
    if not study.trials:
        study.set_user_attr("experiment", digest(config, space))
    require(
        study.user_attrs["experiment"] == digest(config, space)
        and study.direction.name.lower() == direction
        and all(compatible(trial, space) for trial in study.trials),
        "name",
        config.name,
        f"another one: the study {name} in {storage} is of other settings or of another space",
        "Their trials cannot be compared.",
    )
    return study


def digest(config: Config, searched: Iterable[str]) -> str:
    """A hash of what all trials have in common, without what cannot change a result."""
    common = {
        key: value
        for key, value in flat(plain(config)).items()
        if not irrelevant(key) and not any(f"{key}.".startswith(f"{name}.") for name in searched)
    }
    return sha256(json.dumps(common, sort_keys=True).encode()).hexdigest()[:16]


def compatible(trial: FrozenTrial, space: Space) -> bool:
    """Whether the values of a trial were drawn from a space of this kind; intervals may change."""
    with suppress(ValueError):
        for name in trial.distributions.keys() & space.keys():
            check_distribution_compatibility(trial.distributions[name], space[name])
        return True
    return False


def of_state(study: Study, *states: TrialState) -> list[FrozenTrial]:
    """The trials of some states; those of which nothing was told yet are `RUNNING`."""
    return study.get_trials(deepcopy=False, states=states)


def queue_failed(study: Study) -> None:
    """Let the values of failed trials come again, as trials of their own, before any new ones."""
    known = of_state(study, TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING)
    settled = [values(trial) for trial in known]
    for trial in of_state(study, TrialState.FAIL):
        if trial.params not in settled:
            settled.append(trial.params)
            study.enqueue_trial(trial.params)


def values(trial: FrozenTrial) -> dict[str, Any]:
    """Those of a trial; of one in the queue, those that it will have."""
    return trial.params or trial.system_attrs.get("fixed_params", {})


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder against a second search; the kernel lets go of it when this process dies.

    Raises:
        UserError: another search is at work in it.
    """
    with (folder / ".search.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                "name",
                folder.name,
                "another one: a search is at work in its folder",
                "For trials side by side: hydra/launcher=joblib hydra.sweeper.n_jobs=N.",
            ) from error
        yield
