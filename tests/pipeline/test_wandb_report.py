"""The comparison of a sweep as a W&B run."""

import json

import pytest
from offline_wandb import read_run

from pipeline.loggers.wandb.report import log_report

LOGGER = {"wandb": {"project": "mine", "entity": None}}


pytestmark = pytest.mark.usefixtures("wandb_offline")


def result(backend, status="completed", logger=LOGGER):
    return {
        "name": f"backend={backend}",
        "backend": backend,
        "status": status,
        "config": {"logger": logger},
        "test": {"test/accuracy": 0.9 if backend == "jax" else 0.8},
        "best": {"metric": "val/accuracy", "value": 0.95, "step": 40, "checkpoint": "somewhere"},
        "seconds": {"setup": 1.0, "total": 3.0},
        "throughput": 1000.0,
        "init_digest": "abc",
    }


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


def test_the_report_of_a_sweep_is_a_run_of_its_own_with_table_page_and_files(sweep, capsys):
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
    assert told[0].startswith("W&B is offline (WANDB_MODE). To upload the run: wandb sync ")


def test_the_same_sweep_goes_on_in_the_same_run(sweep):
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
def test_nothing_is_told_if_no_job_was_or_no_report_is_wanted(sweep, logger):
    log_report(sweep, [result("torch", logger=logger), {"name": "refused", "status": "failed"}])
    assert not (sweep / "wandb").exists()


def test_under_a_wandb_agent_the_run_is_the_jobs_and_not_the_reports(sweep, monkeypatch):
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")
    log_report(sweep, [result("torch")])
    assert not (sweep / "wandb").exists()


def test_an_error_of_wandbs_is_told_and_fails_nothing(sweep, monkeypatch, capsys):
    monkeypatch.setenv("WANDB_MODE", "onlin")
    log_report(sweep, [result("torch")])
    assert "W&B did not take the comparison: WANDB_MODE=onlin: must be" in capsys.readouterr().out
