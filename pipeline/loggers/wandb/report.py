"""Comparison of a sweep as a W&B run of its own, next to those of the jobs."""

import os
import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.loggers import WandbConfig
from pipeline.loggers.wandb.artifacts import copy_into, log_files
from pipeline.loggers.wandb.identity import COMPARISON, LONGEST, SWEEP, shorten
from pipeline.loggers.wandb.logger import report_errors
from pipeline.loggers.wandb.start import start_run
from pipeline.storage.run_result import RunResult

if TYPE_CHECKING:
    import wandb

PAGE = "report.html"
FILES = (PAGE, "comparison.md", "comparison.csv")


def log_report(folder: Path, results: Sequence[RunResult]) -> None:
    """Log a table of all runs and the report of a sweep to W&B, if one of its jobs was logged there.

    A repeated sweep resumes its W&B run. Files of the report that are not in `folder` are left out. An
    error of W&B's is printed in one line.
    """
    settings = ((result.config.get("logger") or {}).get("wandb") for result in results)
    config = next((WandbConfig(**found) for found in settings if found is not None), None)
    # Under an agent of a W&B sweep the only W&B run is that of the job.
    if config is None or "report" not in config.artifacts or SWEEP in os.environ:
        return
    name = shorten(f"{folder.name} {COMPARISON}")
    with report_errors("the comparison", print):  # the log of a sweep goes to the terminal as well
        who = {
            "id": run_id(folder),
            "name": name,
            "group": name,
            "job_type": COMPARISON,
            "tags": [COMPARISON, shorten(folder.name, LONGEST // 2)],
            "config": {"sweep_name": folder.name},
        }
        with start_run(config, folder, who, print) as run:
            _log(run, folder, results)
        import wandb

        wandb.teardown()  # otherwise the end of an offline file may be missing


def _log(run: "wandb.Run", folder: Path, results: Sequence[RunResult]) -> None:
    import wandb

    rows = [
        {"run": result.name, "backend": result.backend} | dict(result.test) | result.summary
        for result in results
    ]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells: list[Iterable[object]] = [[row.get(key) for key in columns] for row in rows]
    values: dict[str, object] = {"runs": wandb.Table(columns=[*columns], data=cells)}
    if (folder / PAGE).is_file():
        values["report"] = wandb.Html(str((folder / PAGE).resolve()), inject=False)
    with copy_into(folder):
        run.log(values)
    files = [folder / name for name in FILES if (folder / name).is_file()]
    if files:
        log_files(run, folder, "report", files)
    run.summary.update(Counter(f"jobs.{result.status}" for result in results))


def run_id(folder: Path) -> str:
    """Return the id of the sweep's W&B run: random, and kept with W&B's files."""
    kept = folder / "wandb" / COMPARISON
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(secrets.token_hex(4))
    return kept.read_text().strip()
