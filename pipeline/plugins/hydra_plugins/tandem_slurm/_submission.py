"""Jobs of a sweep as jobs of Slurm's: one array for each shape, each task of it the run itself."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, run_job
from hydra.types import HydraContext
from hydra_plugins.tandem_slurm._queue import Queued, queued, wait
from omegaconf import DictConfig, OmegaConf, open_dict
from submitit.core.utils import FailedJobError

from pipeline.config import AUTO, Kind
from pipeline.errors import UserError
from pipeline.failures import first_failure
from pipeline.objective import objective
from pipeline.ranks import amend
from pipeline.sweep import Work, error_of, note_crash, work_of

ENV = "/usr/bin/env"  # sets variables, then becomes what it is given

# What submitit calls by its own name for all clusters; the rest of the settings are Slurm's alone.
SHARED = ("timeout_min", "cpus_per_task", "mem_gb", "name")

EACH_RANK = ["--kill-on-bad-exit=1", "--open-mode=append"]


@dataclass(frozen=True)
class Shape:
    """What a job needs of the cluster.

    Args:
        nodes: machines.
        tasks: processes on each, one for each device.
        gpus: of each machine; None asks for none.
    """

    nodes: int
    tasks: int
    gpus: int | None

    @property
    def words(self) -> str:
        """For a person."""
        return f"{self.nodes} × {self.tasks}" if self.nodes * self.tasks > 1 else "1 task"


class Submission:
    """The jobs of a sweep, from their overrides to what came of them.

    A task of Slurm's is not a function that submitit runs, but becomes the command of the run: the
    signals that Slurm sends reach the run itself, and there is nobody else to requeue it.

    Args:
        settings: below `hydra.launcher`.
        hydra_context: what Hydra composes with.
        config: of the sweep.
    """

    def __init__(
        self, settings: Mapping[str, Any], hydra_context: HydraContext, config: DictConfig
    ) -> None:
        self.hydra_context, self.config = hydra_context, config
        self.settings = {
            key: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for key, value in settings.items()
        }

    def launch(self, job_overrides: Sequence[Sequence[str]], first: int) -> Sequence[JobReturn]:
        """Submit what there is to do, wait until all is done, and tell how each job ended.

        Raises:
            UserError: the cluster refuses the jobs.
            SystemExit: Ctrl-C; the jobs go on.
        """
        returns = [self.prepared(job, first + place) for place, job in enumerate(job_overrides)]
        jobs = [job.return_value for job in returns]
        known = [job for job in jobs if isinstance(job, Queued)]
        wait(known + self.submitted([job for job in jobs if isinstance(job, Work)]), ended)
        for job in returns:
            job.return_value = objective(Path(job.hydra_cfg.hydra.runtime.output_dir))
        return returns

    def prepared(self, overrides: Sequence[str], number: int) -> JobReturn:
        """What Hydra keeps of a job; its value is what is in the queue, or to be put there, if any."""
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.num = config.hydra.job.id = number
        return run_job(
            hydra_context=self.hydra_context,
            task_function=lambda composed: known_or_due(composed, HydraConfig.get()),
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
            configure_logging=False,
        )

    def submitted(self, works: Sequence[Work]) -> list[Queued]:
        """New jobs in Slurm's queue, those of one shape together."""
        shapes: dict[Shape, list[Work]] = {}
        for work in works:
            shapes.setdefault(self.shape(work), []).append(work)
        return [job for shape, alike in shapes.items() for job in self.submit(shape, alike)]

    def submit(self, shape: Shape, works: Sequence[Work]) -> list[Queued]:
        """Submit jobs of one shape.

        Raises:
            UserError: Slurm refuses them.
        """
        executables = [ENV] * len(works)
        commands = [
            [ENV, *(f"{name}={value}" for name, value in work.environment.items()), *work.command]
            for work in works
        ]
        try:
            jobs = self.executor(shape).map_array(os.execv, executables, commands)
        except (FailedJobError, RuntimeError) as error:
            said = str(error).strip().splitlines()[-1]
            raise UserError(
                "hydra/launcher",
                "slurm",
                f"used where Slurm takes the job. It says: {said}",
                "Its partitions and their limits: sinfo; all settings: conf/hydra/launcher/slurm.yaml.",
            ) from error
        tasks = shape.nodes * shape.tasks
        waiting = [
            Queued(work, job.job_id, tasks, relative(job.task(0).paths.stdout))
            for work, job in zip(works, jobs, strict=True)
        ]
        for job in waiting:
            job.note()
            job.work.tell(f"is job {job.job} of Slurm ({shape.words}), log: {job.log}")
        return waiting

    def shape(self, work: Work) -> Shape:
        """What a job needs, by the `accelerator` group and the settings.

        Raises:
            UserError: it is left to the cluster, which does not know.
        """
        accelerator = work.config.accelerator
        nodes = self.settings["nodes"] or accelerator.nodes
        tasks = self.settings["tasks_per_node"] or accelerator.devices
        for key, setting, value in (
            ("nodes", "nodes", nodes),
            ("devices", "tasks_per_node", tasks),
        ):
            if value == AUTO:
                raise UserError(
                    f"accelerator.{key}",
                    AUTO,
                    "a number under hydra/launcher=slurm, which asks the cluster for so many",
                    f"Set it, or hydra.launcher.{setting}=N.",
                )
        gpus = self.settings["gpus_per_node"]
        if gpus is None and accelerator.kind is Kind.gpu:
            gpus = tasks
        return Shape(nodes, tasks, gpus or None)

    def executor(self, shape: Shape) -> submitit.AutoExecutor:
        """What writes the batch script and calls `sbatch`."""
        executor = submitit.AutoExecutor(self.settings["submitit_folder"], cluster="slurm")
        parameters = self.given() | {
            "nodes": shape.nodes,
            "tasks_per_node": shape.tasks,
            "stderr_to_stdout": True,
            "slurm_additional_parameters": {"requeue": True}
            | self.settings["additional_parameters"],
            "slurm_srun_args": [*EACH_RANK, *self.settings["srun_args"]],
        }
        if shape.gpus:
            parameters["gpus_per_node"] = shape.gpus
        if cpus := self.settings["cpus_per_task"]:
            # Since 22.05 srun does not take it over from the batch script.
            parameters["slurm_srun_args"].append(f"--cpus-per-task={cpus}")
        executor.update_parameters(**parameters)
        return executor

    def given(self) -> dict[str, Any]:
        """The settings that go to sbatch as they are, by submitit's names."""
        own = ("submitit_folder", "nodes", "tasks_per_node", "gpus_per_node")
        own += ("additional_parameters", "srun_args")
        return {
            key if key in SHARED else f"slurm_{key}": value
            for key, value in self.settings.items()
            if key not in own and value is not None
        }


def known_or_due(composed: DictConfig, hydra: DictConfig) -> Queued | Work | None:
    """A job that is in Slurm's queue or runs there already, or else the work that is due, if any.

    The queue is asked first: what has left it since has also written how it ended.

    Args:
        composed: the config of the job.
        hydra: Hydra's own.
    """
    work = work_of(composed, hydra)
    if work is None:
        return None
    return queued(work) or (work if work.due() else None)


def ended(job: Queued, state: str) -> None:
    """Tell how a job ended; where it could not say so itself, Slurm's word is its result."""
    work, result = job.work, job.result()
    status = (result or {}).get("status")
    if result is None or (status == "interrupted" and state not in ("CANCELLED", "COMPLETED")):
        note_crash(work, f"Slurm says {state}: {job.last_words()}")
        status = "failed"
    if status == "failed":
        # Slurm may have ended the first rank before it could tell what another had noted.
        noted = first_failure(work.folder, job.tasks)
        if noted and job.tasks > 1:
            amend(work.folder, noted)
        work.tell(f"failed: {error_of(work.folder)}", file=sys.stderr)
    else:
        work.tell(status)


def relative(path: Path) -> Path:
    """A path as short as it can be typed here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
