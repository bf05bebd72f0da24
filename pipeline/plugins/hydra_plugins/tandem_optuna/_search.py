"""A search over configurations that can be stopped at any moment and gone on with."""

import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from hydra.errors import HydraException
from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl
from hydra_plugins.tandem_optuna._sampler import KeyedSampler
from hydra_plugins.tandem_optuna._space import Space, searched
from hydra_plugins.tandem_optuna._study import alone, of_state, open_study, queue_failed
from omegaconf import OmegaConf
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from pipeline.announce import number
from pipeline.composer import Composer
from pipeline.config import Config
from pipeline.config.fields import require
from pipeline.errors import RunFailed
from pipeline.explain import in_our_words
from pipeline.job_names import SWEPT, job_folder
from pipeline.objective import BEST, monitored
from pipeline.prospects import place
from pipeline.runs import RESULT, RunFolder, write_json
from pipeline.sweep import note_sweep
from pipeline.sweeper import launched

POINTS = 20  # of the space that are tried before a search is refused


class Search(OptunaSweeperImpl):
    """Hydra's Optuna sweeper with a loop of its own.

    What it adds: the trials in the study count, so that the same command goes on, first with what
    was stopped; a job has the number of its trial; a trial is composed and checked before it
    starts; one that fails is no reason to stop, an interruption is.
    """

    def sweep(self, arguments: list[str]) -> None:
        """Run the trials that are not done yet, and write the best parameters.

        Args:
            arguments: the overrides of the command line.

        Raises:
            UserError: no point of the space can run, or the study is of another experiment.
            RunFailed: more trials failed than `max_failure_rate` allows.
        """
        self.check_settings()
        self.folder = Path(self.sweep_dir)
        self.composer = Composer(self.hydra_context.config_loader, self.config)
        self._process_searchspace_config()
        given = self._parse_sweeper_params_config() + arguments
        space, self.fixed = searched(self.search_space_distributions or {}, given)
        os.environ[SWEPT] = ",".join(space)  # what tells one job from another
        config = self.checked(space)
        self.metric, direction = monitored(config.dataset)
        self.folder.mkdir(parents=True, exist_ok=True)
        sampler = KeyedSampler(self.sampler, config.seed)
        with alone(self.folder):
            study = open_study(
                self.study_name, self.storage, sampler, self.direction or direction, config, space
            )
            self.tell_state(study)
            if config.sweep.dry_run:
                return
            note_sweep(self.folder, self.config)
            if config.sweep.retry_failed:
                queue_failed(study)
            while (trials := self.due(study, space)) and self.run(study, trials):
                self.write_best(study)

    def check_settings(self) -> None:
        """Refuse settings that the plugin would stumble over."""
        for name in ("n_trials", "n_jobs"):
            value = getattr(self, name)
            is_count = isinstance(value, int) and value >= 1
            require(is_count, f"hydra.sweeper.{name}", value, "a whole number, 1 or more")
        require(
            self.direction in (None, "maximize", "minimize"),
            "hydra.sweeper.direction",
            self.direction,
            "null, maximize or minimize",
        )
        require(
            self.sampler is not None and not self.sampler.get("_partial_"),
            "hydra/sweeper/sampler",
            self.config.hydra.runtime.choices.get("hydra/sweeper/sampler"),
            "tpe, random, cmaes, nsgaii or motpe",
            "A grid needs no sampler: leave out hydra/sweeper, and list values as lr=0.1,0.01.",
        )

    def job(self, params: Mapping[str, Any]) -> list[str]:
        """The overrides of a trial."""
        words = {None: "null", True: "true", False: "false"}
        drawn = [
            f"{name}={words[value] if value is None or isinstance(value, bool) else value}"
            for name, value in sorted(params.items())
        ]
        return self.fixed + drawn

    def refusal(self, params: Mapping[str, Any]) -> Exception | None:
        """Why a trial cannot run, if so."""
        try:
            self.composer.config(self.job(params))
        except Exception as error:
            return error
        return None

    def checked(self, space: Space) -> Config:
        """The config of a point of the space.

        A slip is told here and not trial by trial: a fixed override that is wrong, an option of a
        group that is not there.

        Raises:
            Exception: what is wrong with the first point, where no point can run; or with a choice
                that Hydra does not take.
        """
        drawn = optuna.create_study(sampler=RandomSampler(seed=0))
        points = [drawn.ask(space).params for _ in range(POINTS)]
        good = next((point for point in points if self.refusal(point) is None), None)
        if good is None:
            raise self.refusal(points[0])
        for name, values in space.items():
            for choice in getattr(values, "choices", ()):
                refusal = self.refusal(good | {name: choice})
                if isinstance(refusal, HydraException):
                    raise refusal
        return self.composer.config(self.job(good))

    def tell_state(self, study: Study) -> None:
        """Print where the search stands."""
        states = [trial.state for trial in study.trials]
        told = [f"{states.count(TrialState.COMPLETE)} of {self.n_trials} trials completed"]
        for state, word in ((TrialState.FAIL, "failed"), (TrialState.RUNNING, "to go on with")):
            if count := states.count(state):
                told.append(f"{count} {word}")
        print(f"search for {self.metric}: {', '.join(told)}  →  {self.folder}", flush=True)

    def due(self, study: Study, space: Space) -> list[FrozenTrial]:
        """The trials to run next: those that were stopped, then new ones; their numbers in a row."""
        for trial in of_state(study, TrialState.RUNNING):
            if not space.keys() <= trial.params.keys():  # stopped while its values were drawn
                study.tell(trial.number, state=TrialState.FAIL)
        if not of_state(study, TrialState.RUNNING):
            queued = len(of_state(study, TrialState.WAITING))
            left = queued + max(0, self.n_trials - len(study.trials))
            for _ in range(min(self.n_jobs, left)):
                trial = study.ask(space)
                if self.custom_search_space_extender:
                    self.custom_search_space_extender(self.config, trial)
        due: list[FrozenTrial] = []
        for trial in of_state(study, TrialState.RUNNING)[: self.n_jobs]:
            is_next = not due or trial.number == due[-1].number + 1
            if not is_next or any(trial.params == other.params for other in due):
                break  # the same values are the same run, so not at the same time
            due.append(trial)
        return due

    def run(self, study: Study, trials: Sequence[FrozenTrial]) -> bool:
        """Run trials and tell the study how they went.

        Returns:
            Whether the search goes on: not when it was interrupted.

        Raises:
            RunFailed: more of them failed than `max_failure_rate` allows.
        """
        refusals = {trial.number: self.refusal(trial.params) for trial in trials}
        for trial in trials:
            if refusal := refusals[trial.number]:
                self.note_refusal(trial, refusal)
                self.tell(study, trial, math.nan)
        if any(refusals.values()):
            return True  # the others are still due
        jobs = [self.job(trial.params) for trial in trials]
        if not getattr(self.launcher, "awaits_running", False):
            for trial, job in zip(trials, jobs, strict=True):
                self.await_end(trial, job)
        values = launched(self.launcher, self.config, jobs, trials[0].number)
        ended = [pair for pair in zip(trials, values, strict=False) if pair[1] is not None]
        for trial, value in ended:
            self.tell(study, trial, value)
        failed = sum(math.isnan(value) for _, value in ended)
        if failed > self.max_failure_rate * len(trials):
            raise RunFailed(
                f"{failed} of {len(trials)} trials failed: more than "
                f"hydra.sweeper.max_failure_rate={self.max_failure_rate}"
            )
        return len(ended) == len(trials)

    def note_refusal(self, trial: FrozenTrial, refusal: Exception) -> None:
        """Write the result of a trial that cannot start, and tell it."""
        name = job_folder(trial.number, self.job(trial.params))
        folder = place(self.folder, name, None)
        folder.mkdir(exist_ok=True)
        error = str(in_our_words(refusal))
        write_json(folder / RESULT, {"name": name, "status": "failed", "error": error})
        print(f"trial {trial.number} cannot run: {error}", file=sys.stderr)

    def await_end(self, trial: FrozenTrial, job: Sequence[str]) -> None:
        """Wait for what a search that was killed has left: a job that is saving its last step."""
        config = self.composer.config(job)
        run = RunFolder(place(self.folder, job_folder(trial.number, job), config))
        if run.running:
            print(f"trial {trial.number} waits for the end of the job in {run.path}", flush=True)
        while run.running:
            time.sleep(0.2)

    def tell(self, study: Study, trial: FrozenTrial, value: float) -> None:
        """Tell the study, and the person, what came of a trial; NaN is a failure."""
        if math.isnan(value):
            study.tell(trial.number, state=TrialState.FAIL)
            print(f"trial {trial.number}: failed", flush=True)
            return
        study.tell(trial.number, value)
        best = study.best_trial
        outcome = f"{self.metric} {number(value)}, best {number(best.value)} (trial {best.number})"
        print(f"trial {trial.number}: {outcome}", flush=True)

    def write_best(self, study: Study) -> None:
        """Write the best parameters so far, in the words of Hydra's plugins."""
        if of_state(study, TrialState.COMPLETE):
            best = study.best_trial
            params = dict(sorted(best.params.items()))
            found = {"name": "optuna", "best_params": params, "best_value": best.value}
            found |= {"metric": self.metric, "trial": best.number}
            OmegaConf.save(OmegaConf.create(found), self.folder / BEST)
