"""A third backend needs a folder and a row: a toy one in NumPy trains, tests, sweeps and is compared."""

import json
import os
import subprocess
import sys
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import pytest

ROOT = Path(__file__).parents[2]
TOY = ROOT / "tests" / "toy_backend" / "numpy_impl"
ROW = '\nBACKENDS["numpy"] = BackendSpec("numpy_impl", re.compile(r"step-(\\d+)\\.npz"))\n'
EXPERIMENT = (
    "model=linear", "optimizer=sgd", "optimizer.momentum=0", "train.precision=fp64",
    "train.steps=60", "train.eval_every=20steps", "train.log_every=10", "logger=none",
    "accelerator=cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project with a third backend: its folder, row and config file."""
    project = tmp_path_factory.mktemp("house")
    copy(ROOT / "run.py", project)
    for name in ("conf", "pipeline"):
        copytree(ROOT / name, project / name, ignore=ignore_patterns("__pycache__"))
    for folder in (ROOT / "lightning_impl", ROOT / "flax_impl", TOY):
        (project / folder.name).symlink_to(folder)
    with (project / "pipeline" / "backend_specs.py").open("a") as registry:
        registry.write(ROW)
    (project / "conf" / "backend" / "numpy.yaml").write_text("name: numpy\n")
    return project


def run(project: Path, *arguments: str, code: int = 0) -> str:
    """Run a command in the project; return what it printed."""
    environment = os.environ | {"TANDEM_PROGRESS": "plain", "PYTHONPATH": str(project)}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def result(project: Path, name: str) -> dict:
    return json.loads((project / "outputs" / name / "result.json").read_text())


@pytest.mark.slow
def test_a_third_backend_trains_resumes_and_tests_with_only_a_row(project):
    run(project, "run.py", "backend=numpy", "name=whole", *EXPERIMENT)
    run(
        project,
        "run.py",
        "backend=numpy",
        "name=half",
        *EXPERIMENT,
        "train.stop_after=30",
        code=130,
    )
    run(project, "run.py", "resume=outputs/half")
    whole, half = result(project, "whole"), result(project, "half")
    assert whole["status"] == half["status"] == "completed"
    assert half["test"] == whole["test"]
    run(project, "run.py", "mode=test", "checkpoint=outputs/whole", "name=again")
    assert result(project, "again")["test"] == whole["test"]


@pytest.mark.slow
def test_a_sweep_over_torch_and_a_third_backend_is_compared(project):
    printed = run(project, "run.py", "-m", "backend=torch,numpy", "name=both", *EXPERIMENT)
    torch, toy = (result(project, f"both/{job}") for job in ("0_backend=torch", "1_backend=numpy"))
    assert toy["init_digest"] == torch["init_digest"]
    assert toy["data_digest"] == torch["data_digest"]
    for key, value in torch["test"].items():
        assert toy["test"][key] == pytest.approx(value, rel=1e-10), key
    assert "the same: train/loss differs by at most" in printed
    assert "backend=numpy" in (project / "outputs" / "both" / "comparison.md").read_text()
    assert (project / "outputs" / "both" / "report.html").exists()
