"""The comparison at the end of a sweep, as a W&B run of its own beside those of the jobs."""

import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import WandbConfig
from pipeline.loggers.wandb.artifacts import copies_in, log_files
from pipeline.loggers.wandb.identity import LONGEST, SWEEP, shortened
from pipeline.loggers.wandb.logger import harmless
from pipeline.loggers.wandb.start import start_run
from pipeline.runs import summary

if TYPE_CHECKING:
    import wandb

KIND = "comparison"  # the run's job type
PAGE = "report.html"
FILES = (PAGE, "comparison.md", "comparison.csv")


def log_report(folder: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Tell W&B of a whole sweep, if one of its jobs was logged there: all runs in a table, the report.

    The same sweep started again goes on in the same W&B run. An error of W&B's is told in a line.

    Args:
        folder: of the sweep; of the report those files are taken that lie in it.
        results: of the runs.
    """
    config = config_of(results)
    # An agent's W&B run is that of its job.
    if config is None or "report" not in config.artifacts or SWEEP in os.environ:
        return
    with harmless("the comparison", print):  # the log of a sweep goes to the terminal, too
        run = start_run(config, folder, who(folder), print)
        with run:
            _log(run, folder, results)
        import wandb

        wandb.teardown()  # else the end of an offline file may not be written yet


def who(folder: Path) -> dict[str, Any]:
    """Who the comparison of a sweep is, as `wandb.init` takes it: in a group of its own."""
    name = shortened(f"{folder.name} {KIND}")
    return {
        "id": run_id(folder),
        "name": name,
        "group": name,
        "job_type": KIND,
        "tags": [KIND, shortened(folder.name, LONGEST // 2)],
        "config": {"sweep_name": folder.name},
    }


def _log(run: "wandb.Run", folder: Path, results: Sequence[Mapping[str, Any]]) -> None:
    import wandb

    values: dict[str, Any] = {"runs": table(results)}
    if (folder / PAGE).is_file():
        values["report"] = wandb.Html(str((folder / PAGE).resolve()), inject=False)
    with copies_in(folder):
        run.log(values)
    files = [folder / name for name in FILES if (folder / name).is_file()]
    if files:
        log_files(run, folder, f"report-{run.id}", "report", files)
    statuses = [result.get("status") for result in results]
    run.summary.update(
        {f"jobs.{status}": statuses.count(status) for status in sorted(set(statuses))}
    )


def table(results: Sequence[Mapping[str, Any]]) -> "wandb.Table":
    """All runs as rows: who they are, their test metrics and what summaries show."""
    import wandb

    rows = [
        {"run": result["name"], "backend": result.get("backend")}
        | dict(result.get("test") or {})
        | {key: str(value) if key == "devices" else value for key, value in summary(result).items()}
        for result in results
    ]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return wandb.Table(columns=columns, data=[[row.get(key) for key in columns] for row in rows])


def config_of(results: Sequence[Mapping[str, Any]]) -> WandbConfig | None:
    """Where the first run that was logged to W&B went."""
    for result in results:
        found = ((result.get("config") or {}).get("logger") or {}).get("wandb")
        if found is not None:
            return WandbConfig(**found)
    return None


def run_id(folder: Path) -> str:
    """The id of the sweep's W&B run: drawn once, and kept beside W&B's files."""
    kept = folder / "wandb" / KIND
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(secrets.token_hex(4))
    return kept.read_text().strip()
