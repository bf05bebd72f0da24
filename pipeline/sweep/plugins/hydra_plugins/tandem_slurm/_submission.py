"""Jobs of a sweep as Slurm jobs: one job array for each resource request."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import submitit
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, run_job
from hydra.types import HydraContext
from hydra_plugins.tandem_slurm._queue import QueuedJob, find_queued, wait_for_jobs
from omegaconf import DictConfig, OmegaConf, open_dict
from submitit.core.utils import FailedJobError

from pipeline.config.accelerator import AUTO, Kind
from pipeline.config.fields import require
from pipeline.devices.launch_ranks import first_failure
from pipeline.errors import UserError
from pipeline.storage.run_folder import RunFolder
from pipeline.sweep.objective import objective
from pipeline.sweep.run_job import SweepJob, make_sweep_job, note_crash

ENV = "/usr/bin/env"  # sets variables, then executes a command

# Settings with the same name for all clusters in submitit; others get the prefix `slurm_`.
SHARED = ("timeout_min", "cpus_per_task", "mem_gb", "name")

# Settings that are not passed to sbatch unchanged.
OURS = (
    "submitit_folder", "nodes", "tasks_per_node", "gpus_per_node", "additional_parameters",
    "srun_args",
)  # fmt: skip


@dataclass(frozen=True)
class Resources:
    """Resource request of a job: nodes, tasks per node (one per device), GPUs per node (None: no request)."""

    nodes: int
    tasks: int
    gpus: int | None


class Submission:
    """The jobs of a sweep, from their overrides to their results.

    A Slurm task executes the command of the run, not a function of submitit's: Slurm's signals then
    reach the run itself, and only the run requeues itself. `settings` are those below `hydra.launcher`.
    """

    def __init__(
        self, settings: Mapping[str, Any], hydra_context: HydraContext, config: DictConfig
    ) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.settings: dict[str, Any] = {
            key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for key, value in settings.items()
        }

    def launch(self, job_overrides: Sequence[Sequence[str]], first: int) -> Sequence[JobReturn]:
        """Submit the jobs that are due, wait until all have ended, and return their objectives."""
        returns: list[JobReturn] = []
        waiting: list[QueuedJob] = []
        due: list[SweepJob] = []
        for number, overrides in enumerate(job_overrides, start=first):
            returns.append(self.prepare(overrides, number))
            job = returns[-1].return_value
            if isinstance(job, QueuedJob):
                waiting.append(job)
            elif isinstance(job, SweepJob):
                due.append(job)
        arrays: dict[Resources, list[SweepJob]] = {}
        for job in due:
            arrays.setdefault(self.resources(job), []).append(job)
        for resources, array in arrays.items():
            waiting += self.submit(resources, array)
        wait_for_jobs(waiting, report_end)
        for job in returns:
            assert job.hydra_cfg is not None  # Hydra sets it before the job runs
            job.return_value = objective(Path(job.hydra_cfg.hydra.runtime.output_dir))
        return returns

    def prepare(self, overrides: Sequence[str], number: int) -> JobReturn:
        """Create the folder of a job; the return value is the job if it is queued or due."""
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.num = config.hydra.job.id = number
        return run_job(
            hydra_context=self.hydra_context,
            task_function=queued_or_due,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            configure_logging=False,
        )

    def submit(self, resources: Resources, jobs: Sequence[SweepJob]) -> list[QueuedJob]:
        """Submit jobs with the same resources as one job array."""
        commands = [
            [ENV, *(f"{name}={value}" for name, value in job.environment.items()), *job.command]
            for job in jobs
        ]
        try:
            submitted = self.executor(resources).map_array(os.execv, [ENV] * len(jobs), commands)
        except (FailedJobError, RuntimeError) as error:
            problem = f"Slurm refuses the job: {str(error).strip().splitlines()[-1]}"
            settings = "conf/hydra/launcher/slurm.yaml"
            hint = f"Its partitions and their limits: sinfo; all settings: {settings}."
            raise UserError("hydra/launcher", "slurm", problem=problem, hint=hint) from error
        tasks = resources.nodes * resources.tasks
        size = f"{resources.nodes} × {resources.tasks}" if tasks > 1 else "1 task"
        queued = []
        for job, slurm in zip(jobs, submitted, strict=True):
            log, here = slurm.task(0).paths.stdout, Path.cwd()
            log = log.relative_to(here) if log.is_relative_to(here) else log
            queued.append(QueuedJob(job, slurm.job_id, tasks, log))
            queued[-1].save()
            job.print(f"is job {slurm.job_id} of Slurm ({size}), log: {log}")
        return queued

    def resources(self, job: SweepJob) -> Resources:
        """Return the request of a job, from the `accelerator` group and the settings.

        It refuses `auto`, which is only known on the machine itself.
        """
        accelerator = job.config.accelerator
        nodes = self.settings["nodes"] or accelerator.nodes
        tasks = self.settings["tasks_per_node"] or accelerator.devices
        gpus = self.settings["gpus_per_node"]
        why = "under hydra/launcher=slurm, which asks the cluster for it"
        settings = {"nodes": ("nodes", nodes), "devices": ("tasks_per_node", tasks)}
        for key, (setting, value) in settings.items():
            hint = f"Set it, or hydra.launcher.{setting}=N."
            require(value != AUTO, f"accelerator.{key}", AUTO, f"a number {why}", hint)
        if gpus is None:
            hint = "Add accelerator=gpu or accelerator=cpu."
            is_known = accelerator.kind is not Kind.auto
            require(is_known, "accelerator.kind", AUTO, f"gpu or cpu {why}", hint)
            gpus = tasks if accelerator.kind is Kind.gpu else None
        return Resources(int(nodes), int(tasks), gpus or None)

    def executor(self, resources: Resources) -> submitit.AutoExecutor:
        """Return the executor that writes the batch script and calls `sbatch`."""
        executor = submitit.AutoExecutor(self.settings["submitit_folder"], cluster="slurm")
        each_rank = ["--kill-on-bad-exit=1", "--open-mode=append"]
        srun_args = [*each_rank, *self.settings["srun_args"]]
        if cpus := self.settings["cpus_per_task"]:
            srun_args.append(f"--cpus-per-task={cpus}")  # not inherited since Slurm 22.05
        passed_on = {
            key if key in SHARED else f"slurm_{key}": value
            for key, value in self.settings.items()
            if key not in OURS and value is not None
        }
        parameters = passed_on | {
            "nodes": resources.nodes,
            "tasks_per_node": resources.tasks,
            "stderr_to_stdout": True,
            "slurm_additional_parameters": {"requeue": True}
            | self.settings["additional_parameters"],
            "slurm_srun_args": srun_args,
        }
        if resources.gpus:
            parameters["gpus_per_node"] = resources.gpus
        executor.update_parameters(**parameters)
        return executor


def queued_or_due(composed: DictConfig) -> QueuedJob | SweepJob | None:
    """Return a job if it is already in Slurm's queue or due, otherwise None.

    The queue is checked first: a job that has left it has written its result.
    """
    job = make_sweep_job(composed, cast("DictConfig", HydraConfig.get()))
    if job is None:
        return None
    return find_queued(job) or (job if job.is_due() else None)


def report_end(queued: QueuedJob, state: str) -> None:
    """Print the end of a job; if it wrote no result, write one with Slurm's state."""
    job, result = queued.job, queued.result()
    status = result.status if result else ""
    if result is None or (status == "interrupted" and state not in ("CANCELLED", "COMPLETED")):
        note_crash(job, f"Slurm says {state}: {queued.slurm_message()}")
        status = "failed"
    if status == "failed":
        # Slurm may have ended rank 0 before it could report the error of another rank.
        noted = first_failure(job.folder, queued.tasks)
        if noted and queued.tasks > 1:
            RunFolder(job.folder).write_failure(noted)
        job.print_failure()
    else:
        job.print(status)
