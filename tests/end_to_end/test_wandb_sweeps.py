"""W&B sweeps: runs that W&B's own agent starts, and how they log.

Only the server is missing: the test draws the parameters, and W&B is offline.
"""

import math
import os
import queue
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import wandb
import warm_start
import yaml
from offline_wandb import read_run
from wandb.wandb_agent import Agent

from pipeline.config.checks.keys import config_groups, every_key, options_of

ROOT = Path(__file__).parents[2]
SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))
TINY = ["train.steps=4", "train.eval_every=2steps", "train.log_every=2", "accelerator=cpu"]

of_each_sweep = pytest.mark.parametrize("path", SWEEPS, ids=[path.stem for path in SWEEPS])


def drawn(sweep: dict, seed: int = 0, **fixed: object) -> dict:
    """Draw parameters as W&B's server does."""
    chance = random.Random(seed)

    def draw(name: str, ranges: dict) -> object:
        if name in fixed:
            assert fixed[name] in ranges["values"]
            return fixed[name]
        if ranges.get("distribution") == "log_uniform_values":
            return math.exp(chance.uniform(math.log(ranges["min"]), math.log(ranges["max"])))
        return ranges["value"] if "value" in ranges else chance.choice(ranges["values"])

    return {name: draw(name, ranges) for name, ranges in sweep["parameters"].items()}


@pytest.fixture
def agent(tmp_path, monkeypatch):
    """A function that starts a run of a sweep through W&B's agent and returns its process."""
    wandb.teardown()
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "WANDB_MODE": "offline",
        "WANDB_SWEEP_ID": "sweep1",  # `wandb agent` sets this and, for each run, the next two
        "WANDB_RUN_ID": "",
        "WANDB_SWEEP_PARAM_PATH": "",
        "WANDB_DIR": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "TANDEM_PROGRESS": "plain",
        "TANDEM_LOCKS": str(tmp_path / ".locks"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    def started(sweep: dict, parameters: dict, *more: str) -> subprocess.Popen:
        agent = Agent(api=None, queue=queue.Queue(), sweep_id="sweep1")
        agent._sweep_command = [*sweep["command"], *more]
        program = tmp_path / "bin" / sweep["program"]  # as pip installs it
        program.parent.mkdir()
        program.write_text(f"#!{sys.executable}\nfrom pipeline.cli.tandem import main\nmain()\n")
        program.chmod(0o755)
        arguments = {name: {"value": value} for name, value in parameters.items()}
        agent._command_run({"run_id": "agents-run", "program": str(program), "args": arguments})
        return agent._run_processes["agents-run"]

    return started


def config_without_sweep(folder: Path, parameters: dict) -> dict:
    """W&B config of the same run started outside a sweep."""
    words = [f"{name}={value}" for name, value in parameters.items()]
    own = {name: value for name, value in os.environ.items() if "WANDB_" not in name}
    warm_start.run(
        [sys.executable, str(ROOT / "run.py"), *words, *TINY, "name=unswept"],
        cwd=folder,
        env=own | {"WANDB_MODE": "offline"},
    ).check_returncode()
    return read_run(folder / "outputs" / "unswept").config


@of_each_sweep
def test_a_sweep_covers_both_backends_and_passes_hydra_overrides(path):
    sweep = yaml.safe_load(path.read_text())
    assert sweep["parameters"]["backend"] == {"values": ["torch", "jax"]}
    assert sweep["command"] == ["${env}", "${program}", "run", "${args_no_hyphens}"]
    assert sweep["program"] == "tandem", "found in any folder, run.py in a checkout alone"
    assert sweep["project"] == "tandem", "as logger.wandb.project"
    assert sweep["method"] in ("grid", "random", "bayes")
    goals = {"val/accuracy": "maximize", "val/loss": "minimize"}
    assert sweep["metric"]["goal"] == goals[sweep["metric"]["name"]]
    known = {key.path for key in every_key()} | set(config_groups())
    for name, ranges in sweep["parameters"].items():
        assert name in known
        if name in config_groups():
            assert set(ranges.get("values", [ranges.get("value")])) <= set(options_of(name))
        for bound in ("min", "max"):
            assert isinstance(ranges.get(bound, 0.0), float), f"{name}: YAML reads 1e-4 as text"
    if sweep["method"] == "grid":
        assert all("values" in ranges for ranges in sweep["parameters"].values())
    else:
        assert sweep["run_cap"] > 0, "or it would never end"


@pytest.mark.slow
@of_each_sweep
def test_the_agent_starts_a_run_with_its_id_and_parameters(path, agent, tmp_path):
    backend = ("torch", "jax")[SWEEPS.index(path) % 2]  # by turns
    sweep = yaml.safe_load(path.read_text())
    parameters = drawn(sweep, backend=backend)
    assert agent(sweep, parameters, *TINY, "name=swept").wait() == 0
    run = read_run(tmp_path / "outputs" / "swept")
    assert run.id == "agents-run"
    assert run.group.startswith(f"sweep1 backend={backend} ")
    assert run.job_type == backend
    assert {name: run.config[name] for name in parameters} == parameters
    assert sweep["metric"]["name"] in run.summary
    assert run.config["sweep_name"] == "sweep1"
    different = {"name", "sweep_name"}
    other = config_without_sweep(tmp_path, parameters)
    assert run.config.keys() == other.keys()
    assert {key for key in other if run.config[key] != other[key]} == different


@pytest.mark.slow
def test_a_run_that_the_sweep_stops_early_is_not_a_failure(agent, tmp_path):
    sweep = yaml.safe_load((ROOT / "sweeps" / "hyperband.yaml").read_text())
    assert sweep["early_terminate"] == {"type": "hyperband", "min_iter": 3, "eta": 3}
    parameters = drawn(sweep, backend="jax") | {"train.epochs": 100_000}
    process = agent(sweep, parameters, "name=stopped", "accelerator=cpu")
    metrics = tmp_path / "outputs" / "stopped" / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while not metrics.exists() or "val/loss" not in metrics.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.terminate()  # as the agent does when the server says so
    assert process.wait() == 0, (
        "the agent takes anything else for a failure, and gives up after five"
    )
    run = read_run(tmp_path / "outputs" / "stopped")
    assert run.exit_code == 0, "finished: the search then counts its metric, not the worst"
    assert run.summary["status"] == "interrupted"
    assert run.summary["val/loss"] > 0
    assert list((tmp_path / "outputs" / "stopped" / "checkpoints").iterdir())
