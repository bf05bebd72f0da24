"""The comparison of a sweep, logged as a W&B run."""

import json
import os

import pytest
from offline_wandb import read_run

from pipeline.loggers.wandb.report import log_report
from pipeline.storage.run_result import RunResult

LOGGER = {"wandb": {"project": "mine", "entity": None}}


pytestmark = pytest.mark.usefixtures("wandb_offline")


def result(backend, status="completed", logger=LOGGER):
    return RunResult.from_json({
        "name": f"backend={backend}",
        "backend": backend,
        "status": status,
        "config": {"logger": logger},
        "test": {"test/accuracy": 0.9 if backend == "jax" else 0.8},
        "best": {"metric": "val/accuracy", "value": 0.95, "step": 40, "checkpoint": "somewhere"},
        "seconds": {"setup": 1.0, "total": 3.0},
        "throughput": 1000.0,
        "init_digest": "abc",
    })  # fmt: skip


@pytest.fixture
def sweep(tmp_path):
    folder = tmp_path / "both"
    folder.mkdir()
    (folder / "report.html").write_text("<h1>torch and JAX</h1>")
    (folder / "comparison.csv").write_text("run,accuracy\n")
    return folder


def logged_table(run):
    path = run.rows[-1]["runs.path"]
    return json.loads((run.files[-1].parent / "files" / path).read_text())


def test_the_comparison_is_a_wandb_run_with_table_page_and_files(sweep, capsys):
    log_report(sweep, [result("torch"), result("jax"), result("jax", "failed")])
    run = read_run(sweep)
    assert (run.name, run.group, run.job_type) == ("both comparison",) * 2 + ("comparison",)
    assert (run.project, run.tags) == ("mine", ["comparison", "both"])
    assert run.config == {"sweep_name": "both"}
    assert run.summary["jobs.completed"] == 2
    assert run.summary["jobs.failed"] == 1
    table = logged_table(run)
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["run"] for row in rows] == ["backend=torch", "backend=jax", "backend=jax"]
    assert [row["test/accuracy"] for row in rows] == [0.8, 0.9, 0.9]
    assert rows[0]["best.value"] == 0.95
    assert rows[0]["seconds.total"] == 3.0
    page = run.files[-1].parent / "files" / run.rows[-1]["report.path"]
    assert page.read_text() == "<h1>torch and JAX</h1>"
    (report,) = [artifact for artifact in run.artifacts if artifact.type == "report"]
    assert sorted(report.contents) == ["comparison.csv", "report.html"]
    assert all(path.is_relative_to(sweep) for path in report.contents.values())
    assert run.exit_code == 0
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 1
    below = os.path.relpath(sweep)
    assert told[0] == (
        "W&B is offline (WANDB_MODE). To upload the sweep: wandb sync "
        f"{below}/wandb/offline-run-* {below}/*/wandb/offline-run-*"
    )


def test_a_repeated_sweep_continues_its_wandb_run(sweep):
    log_report(sweep, [result("torch")])
    first = read_run(sweep).id
    log_report(sweep, [result("torch"), result("jax")])
    run = read_run(sweep)
    assert run.id == first
    assert len(run.files) == 2
    assert len(logged_table(run)["data"]) == 2


@pytest.mark.parametrize(
    "logger",
    [{"wandb": None}, {"wandb": {"project": "mine", "artifacts": ["config"]}}, {}],
)
def test_no_report_without_wandb_jobs_or_the_report_artifact(sweep, logger):
    log_report(sweep, [result("torch", logger=logger), RunResult(name="refused", status="failed")])
    assert not (sweep / "wandb").exists()


def test_no_report_under_a_wandb_agent(sweep, monkeypatch):
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    log_report(sweep, [result("torch")])
    assert not (sweep / "wandb").exists()


def test_a_wandb_error_is_reported_and_does_not_fail_the_sweep(sweep, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "onlin")
    log_report(sweep, [result("torch")])
    assert "W&B did not take the comparison: WANDB_MODE=onlin: must be" in capsys.readouterr().out
