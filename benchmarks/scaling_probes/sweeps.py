"""Cost over the jobs of a sweep: before the first job, and with the jobs."""

from pathlib import Path

from benchmarks.scaling_probes.case import ROOT, Case

COUNTS = (10, 30, 100, 300, 1000)
TINY = ("model=linear", "train.steps=10", "logger=none", "accelerator=cpu")


def sweep(first: int, size: int, folder: Path, *overrides: str) -> list[str]:
    """Return the command of a sweep over seeds into a folder."""
    seeds = f"seed=range({first},{first + size})"
    return [str(ROOT / "run.py"), "-m", f"hydra.sweep.dir={folder}/sweep", seeds, *TINY, *overrides]


def plan_new(size: int, folder: Path) -> list[str]:
    """Return the command that plans a new sweep."""
    return sweep(0, size, folder, "sweep.dry_run=true")


def finish_jobs(size: int, folder: Path) -> None:
    """Write the runs of a sweep as if they had ended."""
    from dataclasses import replace

    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode

    from pipeline.config.experiment import register
    from pipeline.config.hydra_compat import compose_from
    from pipeline.job_context import job_context, publish
    from pipeline.storage.run_folder import RunFolder
    from pipeline.storage.run_result import RunResult
    from pipeline.sweep.job_names import swept_keys
    from pipeline.sweep.sweeper import plan

    arguments = [f"seed=range(0,{size})", *TINY]
    publish(replace(job_context(), swept=swept_keys(arguments)))
    register()
    with compose_from(ROOT / "conf"):
        hydra = GlobalHydra.instance().hydra
        config = hydra.compose_config(
            "config", [f"hydra.sweep.dir={folder}/sweep"], RunMode.MULTIRUN
        )
        for job in plan(hydra.config_loader, config, arguments):
            assert job.config
            run = RunFolder(job.folder)
            run.identify(job.config)
            run.write_result(RunResult(name=job.name, status="completed"))


def plan_again(size: int, folder: Path) -> list[str]:
    """Return the command that plans a sweep whose jobs are done, by other numbers, but the last."""
    return sweep(1, size, folder, "sweep.dry_run=true")


def run_jobs(size: int, folder: Path) -> list[str]:
    """Return the command of a sweep that trains."""
    return sweep(0, size, folder, "backend=jax")


CASES = [
    Case(
        "jobs-new", "Jobs of a new sweep", "jobs",
        "`python run.py -m seed=… sweep.dry_run=true`: all that is done before the first job starts.",
        COUNTS, quick=(10, 20), command=plan_new,
    ),
    Case(
        "jobs-again", "Jobs of a sweep that is done", "jobs",
        "The same where every job but one is done, in a folder with another number.",
        COUNTS, prepare=finish_jobs, command=plan_again,
    ),
    Case(
        "jobs-run", "Jobs that train", "jobs",
        "Whole commands with a linear model on digits for ten steps in JAX, jobs and comparison included.",
        COUNTS, command=run_jobs,
    ),
]  # fmt: skip
