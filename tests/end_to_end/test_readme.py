"""Commands of README.md, docs/cluster.md and docs/wandb.md work as written."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import warm_start

from pipeline.config.checks.keys import every_key

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


CLUSTER, WANDB = ((ROOT / "docs" / name).read_text() for name in ("cluster.md", "wandb.md"))
SCRIPTS = ("run.py", "sweeps/workspace.py")
PROGRAMS = {"python": sys.executable, "torchrun": str(Path(sys.executable).with_name("torchrun"))}


def blocks(page=README):
    """Commands of each sh block of a page, in order."""
    found = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    return [[line for line in block.splitlines() if line.strip()] for block in found]


def commands(page=README):
    """All commands in the sh blocks of a page, in order."""
    return [command for block in blocks(page) for command in block]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder in which the commands of the README run one after the other."""
    return tmp_path_factory.mktemp("readme")


def test_the_readme_shows_commands_of_every_kind():
    shown = " ".join(commands())
    commands_of = ("-m ", "pipeline.compare", "pipeline.convert", "--help")
    for part in ("resume=", "mode=test", "debug=", "logger=", *commands_of):
        assert part in shown, part


@pytest.mark.slow
@pytest.mark.parametrize("block", blocks(), ids=lambda block: block[0])
def test_every_command_of_the_readme_works_in_order(folder, block):
    run(block, folder)


@pytest.mark.slow
def test_the_commands_of_the_readme_leave_the_runs_it_names(folder):
    listed = {path.name for path in (folder / "outputs").iterdir()}
    assert {"first", "second", "third", "sweep", "stopped", "fp64", "logs", "profile"} <= listed


@pytest.mark.slow
def test_the_lines_for_python_work_in_order(folder):
    pytest.importorskip("pandas")
    [lines] = re.findall(r"## From Python\n.*?```python\n(.*?)```", README, re.DOTALL)
    assert len(lines.split("\n")) <= 12
    (folder / "from_python.py").write_text(lines)
    run(["python -m from_python"], folder)


@pytest.mark.slow
def test_the_commands_of_the_cluster_page_that_need_no_cluster_work(tmp_path):
    run(commands(CLUSTER), tmp_path)
    listed = {path.name for path in (tmp_path / "outputs").iterdir()}
    assert listed == {"two", "sides"}


@pytest.mark.slow
def test_the_commands_of_the_wandb_page_that_need_no_server_work(tmp_path):
    run(commands(WANDB), tmp_path)
    jobs = sorted(path.name for path in (tmp_path / "outputs" / "pair").glob("*_*"))
    assert [job.partition("_")[0] for job in jobs] == ["0", "1", "2", "3"]
    assert list((tmp_path / "outputs" / "pair" / "wandb").glob("offline-run-*"))
    assert (tmp_path / "outputs" / "kept" / "result.json").exists()


def test_the_wandb_page_names_every_key_and_sweep_file():
    for key in every_key():
        if key.path.startswith("logger.wandb."):
            assert key.path in WANDB, key.path
    for sweep in (ROOT / "sweeps").glob("*.yaml"):
        assert sweep.name in WANDB


def run(commands, folder):
    """Run commands of a page one after the other in a folder."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "TANDEM_PROGRESS": "plain",
        "WANDB_MODE": "offline",
        "XLA_FLAGS": "--xla_cpu_parallel_codegen_split_count=1",  # optimized: they train to the end
    }
    for command in commands:
        program, *arguments = shlex.split(command)
        if program == "tandem":
            program, arguments = "python", ["-m", "pipeline.cli.tandem", *arguments]
        arguments = [str(ROOT / word) if word in SCRIPTS else word for word in arguments]
        cold = program != "python"
        done = warm_start.run(
            [PROGRAMS[program], *arguments], cwd=folder, env=environment, cold=cold
        )
        interrupted = "train.stop_after" in command
        assert done.returncode == (130 if interrupted else 0), f"{command}\n{done.stderr}"


@pytest.mark.parametrize("target", re.findall(r"^    make (\w+)", README, re.MULTILINE))
def test_every_make_target_of_the_readme_exists(target):
    done = subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
