"""The W&B workspace of a project, as it would be sent."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def spec(tmp_path_factory) -> dict:
    """Workspace of a sweep as the command prints it, without a login or a network."""
    folder = tmp_path_factory.mktemp("workspace")
    own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    nowhere = {"WANDB_BASE_URL": "http://127.0.0.1:9", "NETRC": str(folder / "none")}
    done = subprocess.run(
        [sys.executable, str(ROOT / "sweeps/workspace.py"), "me", "--sweep", "both", "--show"],
        cwd=folder,
        env=own | nowhere,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["section"]


def test_runs_are_grouped_by_backend_and_then_by_all_but_the_seed(spec):
    (runs,) = spec["runSets"]
    assert [(key["section"], key["name"]) for key in runs["grouping"]] == [
        ("config", "backend.value"),
        ("run", "group"),
    ]


def test_the_workspace_shows_one_sweep_without_its_comparison(spec):
    told = {
        (rule["key"]["section"], rule["key"]["name"], rule["op"], rule["value"])
        for rule in spec["runSets"][0]["filters"]["filters"]
    }
    assert told == {("run", "jobType", "!=", "comparison"), ("config", "sweep_name", "=", "both")}


def test_the_workspace_has_curves_over_steps_and_seconds_and_bars_of_speed(spec):
    shown = {
        section["name"]: [(panel["viewType"], panel["config"]) for panel in section["panels"]]
        for section in spec["panelBankConfig"]["sections"]
    }
    axes = {
        name: {(kind, config.get("xAxis")) for kind, config in panels}
        for name, panels in shown.items()
    }
    assert axes["Over steps"] == {("Run History Line Plot", "_step")}
    assert axes["Over seconds"] == {("Run History Line Plot", "perf/seconds")}
    over_steps = [config["metrics"] for _, config in shown["Over steps"]]
    assert over_steps[:3] == [["val/loss"], ["val/accuracy"], ["train/loss"]]
    bars = [config["metrics"] for _, config in shown["Speed, memory and result"]]
    assert ["throughput"] in bars
    assert ["seconds.total"] in bars
