"""Search over configurations that resumes where it stopped."""

import json
import math
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import optuna
from hydra.core.config_loader import ConfigLoader
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra_plugins.tandem_optuna._space import Space, split_overrides
from hydra_plugins.tandem_optuna._study import (
    KeyedSampler,
    enqueue_failed,
    import_object,
    lock_folder,
    open_study,
    trials_in,
)
from hydra_plugins.tandem_optuna.config import SearchConfig
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import CategoricalDistribution
from optuna.samplers import RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from pipeline.config.experiment import Config
from pipeline.config.fields import require
from pipeline.errors import RunFailed
from pipeline.formatting import format_number
from pipeline.job_context import job_context, publish
from pipeline.storage.run_folder import RunFolder
from pipeline.sweep.compose_jobs import Composer
from pipeline.sweep.job_names import job_folder
from pipeline.sweep.job_needs import missing_need
from pipeline.sweep.job_status import job_folder_for
from pipeline.sweep.objective import BEST, monitored
from pipeline.sweep.run_job import note_sweep, write_refusal
from pipeline.sweep.sweeper import launch_jobs

PROBES = 20  # points of the space that are composed before a search is refused


class Search:
    """Search by Optuna, as a loop over its trials.

    The trials in the study count, so the same command resumes a search, interrupted trials first. An
    interruption ends the search, a failed trial does not.
    """

    def __init__(
        self, settings: SearchConfig, loader: ConfigLoader, launcher: Launcher, config: DictConfig
    ) -> None:
        self.settings, self.loader, self.launcher, self.config = settings, loader, launcher, config
        self.folder = Path(config.hydra.sweep.dir)
        self.composer = Composer(loader, config)
        self.fixed: list[str] = []
        self.metric = ""
        key = "hydra/sweeper/sampler"
        chosen = config.hydra.runtime.choices.get(key)
        allowed = "tpe, random, cmaes, nsgaii or motpe"
        hint = "A grid needs no sampler: leave out hydra/sweeper, and list values as lr=0.1,0.01."
        require(settings.sampler is not None, key, chosen, allowed, hint)

    def run(self, arguments: Sequence[str]) -> None:
        """Run the unfinished trials, and write the best parameters."""
        preset = [f"{key}={value}" for key, value in (self.settings.params or {}).items()]
        space, self.fixed = split_overrides([*preset, *arguments], self.loader)
        publish(replace(job_context(), swept=tuple(space)))
        config = self.check_space(space)
        self.metric, direction = monitored(config)
        if self.settings.direction:
            direction = self.settings.direction.name
        self.folder.mkdir(parents=True, exist_ok=True)
        sampler = KeyedSampler(self.settings.sampler, config.seed)
        name, storage = self.settings.study_name, self.settings.storage
        with lock_folder(self.folder):
            study = open_study(name, storage, sampler, direction, config, space)
            self.print_state(study)
            if config.sweep.dry_run:
                return
            note_sweep(self.folder, self.config)
            if config.sweep.vectorize:
                print("by itself: each trial: it is chosen by the results of others", flush=True)
            if config.sweep.retry_failed:
                enqueue_failed(study)
            while (trials := self.next_trials(study, space)) and self.run_trials(study, trials):
                self.write_best(study)

    def overrides_of(self, params: Mapping[str, object]) -> list[str]:
        """List the overrides of a trial."""
        drawn = []
        for key, value in sorted(params.items()):
            text = json.dumps(value) if value is None or isinstance(value, bool) else str(value)
            drawn.append(f"{key}={text}")
        return self.fixed + drawn

    def error_in(self, params: Mapping[str, object]) -> Exception | None:
        """Return the error in the config of a trial; None if it can run."""
        try:
            self.composer.config(self.overrides_of(params))
        except Exception as error:
            return error
        return None

    def check_space(self, space: Space) -> Config:
        """Return the config of a point of the space that can run.

        A mistake such as an unknown option of a group raises its error here, once, not for each trial.
        """
        probe = optuna.create_study(sampler=RandomSampler(seed=0))
        points = [probe.ask(space).params for _ in range(PROBES)]
        runnable = next((point for point in points if self.error_in(point) is None), points[0])
        config = self.composer.config(self.overrides_of(runnable))  # raises if no point can run
        if (missing := missing_need(config, self.config)) is not None:
            raise missing
        for key, values in space.items():
            for choice in values.choices if isinstance(values, CategoricalDistribution) else ():
                error = self.error_in(runnable | {key: choice})
                if isinstance(error, HydraException):
                    raise error
        return config

    def print_state(self, study: Study) -> None:
        """Print the number of trials in each state."""
        states = [trial.state for trial in study.trials]
        total = self.settings.n_trials
        counts = [f"{states.count(TrialState.COMPLETE)} of {total} trials completed"]
        for state, label in ((TrialState.FAIL, "failed"), (TrialState.RUNNING, "to resume")):
            if count := states.count(state):
                counts.append(f"{count} {label}")
        print(f"search for {self.metric}: {', '.join(counts)}  →  {self.folder}", flush=True)

    def next_trials(self, study: Study, space: Space) -> list[FrozenTrial]:
        """List the next batch of trials, with consecutive numbers: interrupted ones, then new ones."""
        for trial in trials_in(study, TrialState.RUNNING):
            if not space.keys() <= trial.params.keys():  # interrupted while its values were drawn
                study.tell(trial.number, state=TrialState.FAIL)
        if not trials_in(study, TrialState.RUNNING):
            queued = len(trials_in(study, TrialState.WAITING))
            left = queued + max(0, self.settings.n_trials - len(study.trials))
            for _ in range(min(self.settings.n_jobs, left)):
                trial = study.ask(space)
                if self.settings.custom_search_space:
                    import_object(self.settings.custom_search_space)(self.config, trial)
        batch: list[FrozenTrial] = []
        for trial in trials_in(study, TrialState.RUNNING)[: self.settings.n_jobs]:
            is_next = not batch or trial.number == batch[-1].number + 1
            if not is_next or any(trial.params == other.params for other in batch):
                break  # trials with equal values are one run, which cannot run twice at a time
            batch.append(trial)
        return batch

    def run_trials(self, study: Study, trials: Sequence[FrozenTrial]) -> bool:
        """Run trials and report their values to the study; return False after an interruption."""
        jobs = [self.overrides_of(trial.params) for trial in trials]
        is_refused = False
        for trial, job in zip(trials, jobs, strict=True):
            if error := self.error_in(trial.params):
                is_refused = True
                name = job_folder(trial.number, job)
                message = write_refusal(job_folder_for(self.folder, name, None), name, error)
                print(f"trial {trial.number} cannot run: {message}", file=sys.stderr)
                self.report(study, trial, math.nan)
        if is_refused:
            return True  # the others run in the next batch
        if not getattr(self.launcher, "awaits_running", False):
            for trial, job in zip(trials, jobs, strict=True):
                self.wait_for_job(trial, job)
        values = launch_jobs(self.launcher, self.config, jobs, trials[0].number)
        ended = [value for value in values if value is not None]
        for trial, value in zip(trials, values, strict=False):
            if value is not None:
                self.report(study, trial, value)
        failed = sum(map(math.isnan, ended))
        if failed > self.settings.max_failure_rate * len(trials):
            allowed = f"hydra.sweeper.max_failure_rate={self.settings.max_failure_rate}"
            raise RunFailed(f"{failed} of {len(trials)} trials failed: more than {allowed}")
        return len(ended) == len(trials)

    def wait_for_job(self, trial: FrozenTrial, job: Sequence[str]) -> None:
        """Wait for a job that a killed search has left running until it has saved its checkpoint."""
        config = self.composer.config(job)
        run = RunFolder(job_folder_for(self.folder, job_folder(trial.number, job), config))
        if run.running:
            print(f"trial {trial.number} waits for the end of the job in {run.path}", flush=True)
        while run.running:
            time.sleep(0.2)

    def report(self, study: Study, trial: FrozenTrial, value: float) -> None:
        """Report the value of a trial to the study and print it; NaN means that it failed."""
        if math.isnan(value):
            study.tell(trial.number, state=TrialState.FAIL)
            text = "failed"
        else:
            study.tell(trial.number, value)
            best = f"best {format_number(study.best_value)} (trial {study.best_trial.number})"
            text = f"{self.metric} {format_number(value)}, {best}"
        print(f"trial {trial.number}: {text}", flush=True)

    def write_best(self, study: Study) -> None:
        """Write the best parameters so far, with the field names of Hydra's own plugin."""
        if trials_in(study, TrialState.COMPLETE):
            best = study.best_trial
            params = dict(sorted(best.params.items()))
            result = {"name": "optuna", "best_params": params, "best_value": best.value}
            result |= {"metric": self.metric, "trial": best.number}
            OmegaConf.save(OmegaConf.create(result), self.folder / BEST)
