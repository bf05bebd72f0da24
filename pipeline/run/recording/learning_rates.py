"""Learning rates of runs that train at once; those of runs with one schedule are computed once."""

from collections.abc import Sequence

from pipeline.config.schedules import PlateauConfig
from pipeline.run.experiment import Experiment


class LearningRates:
    """Learning rates at a step, of each run."""

    def __init__(self, experiments: Sequence[Experiment]) -> None:
        self._recorders = [experiment.recorder for experiment in experiments]
        keys = [_key(experiment) for experiment in experiments]
        self._first = [keys.index(key) for key in keys]  # run with the same schedule

    def __call__(self, step: int) -> list[float]:
        """Return the rate of each run for the update after `step` updates."""
        rates = {row: self._recorders[row].learning_rate(step) for row in {*self._first}}
        return [rates[row] for row in self._first]


def _key(experiment: Experiment) -> str:
    """Return a text that is the same for runs with the same rates at every step."""
    config = experiment.config
    # The rate of a plateau follows from the run's own evaluations.
    own = experiment.folder if isinstance(config.schedule, PlateauConfig) else ""
    return f"{config.optimizer.lr} {config.schedule} {own}"
