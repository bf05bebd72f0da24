"""A wheel holds everything: installed elsewhere, `tandem` works in an empty folder."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = (
    "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "run.py", "conf",
    "starter", "sweeps", "tandem", "pipeline", "lightning_impl", "flax_impl",
)  # fmt: skip
SMALL = ("logger=none", "train.steps=4", "train.batch_size=16", "accelerator=cpu")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tandem(tmp_path_factory):
    """`tandem` of a wheel in an environment of its own, whose other packages are those of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    (folder / "sources").mkdir()
    for name in SHIPPED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, folder / "sources" / name)
    offline = ("--no-deps", "--no-index", "--quiet", "--disable-pip-version-check")
    pip, python = [sys.executable, "-m", "pip"], folder / "env" / "bin" / "python"
    build = ("wheel", *offline, "--no-build-isolation", "-w", folder, folder / "sources")
    subprocess.run([*pip, *build], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    own = next((folder / "env").glob("lib/python*/site-packages"))
    (own / "packages_of_the_suite.pth").write_text(sysconfig.get_path("purelib"))
    [wheel] = folder.glob("*.whl")
    subprocess.run([*pip, "--python", python, "install", *offline, wheel], check=True)
    shutil.rmtree(folder / "sources")
    return python.with_name("tandem")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Empty folder in which the commands of this file run."""
    return tmp_path_factory.mktemp("elsewhere")


def run(command, folder, *arguments):
    """Run a command without anything of the checkout on the import path; return its output."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"TANDEM_PROGRESS": "plain", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [command, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_run_of_the_installed_command(tandem, folder, backend):
    run(tandem, folder, "run", f"backend={backend}", "model=linear", f"name={backend}", *SMALL)
    result = json.loads((folder / "outputs" / backend / "result.json").read_text())
    assert (result["status"], result["steps"]) == ("completed", 4)


def test_its_sweeps_and_other_commands(tandem, folder):
    run(
        tandem, folder, "run", "-m", "model=linear", "seed=0,1", "name=sweep", "backend=jax", *SMALL
    )
    assert (folder / "outputs" / "sweep" / "report.html").exists()
    run(tandem, folder, "compare", "outputs/torch", "outputs/jax", "--to", "both")
    assert (folder / "both" / "report.html").exists()
    said = run(tandem, folder, "convert", "outputs/torch", "weights.safetensors")
    assert "→  weights.safetensors" in said
    said = run(tandem, folder, "parity", "model=linear", "train.steps=3")
    assert "the same: over 3 steps" in said


def test_its_new_project_passes_its_test_and_runs_at_once(tandem, folder):
    said = run(tandem, folder, "new", "demo")
    assert "cd demo" in said
    assert "2 passed" in run(tandem.with_name("python"), folder / "demo", "-m", "pytest", "-q")
    run(
        tandem,
        folder / "demo",
        "run",
        "experiment=mine",
        "backend=jax",
        "name=first",
        "train.epochs=1",
    )
    assert "program: tandem" in (folder / "demo" / "sweeps" / "random.yaml").read_text()
    result = json.loads((folder / "demo" / "outputs" / "first" / "result.json").read_text())
    assert {"test/loss", "test/accuracy"} <= result["test"].keys()
    assert result["config"]["model"]["jax"] == "in_jax:Net"
