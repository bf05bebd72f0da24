"""The commands of the README, and of the pages on clusters and W&B, work as they stand there."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.keys import every_key

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


CLUSTER, WANDB = ((ROOT / "docs" / name).read_text() for name in ("cluster.md", "wandb.md"))
SCRIPTS = ("run.py", "sweeps/workspace.py")
PROGRAMS = {"python": sys.executable, "torchrun": str(Path(sys.executable).with_name("torchrun"))}


def commands(page=README):
    """Every command in the sh blocks of a page, in order."""
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_the_readme_shows_commands_of_every_kind():
    shown = " ".join(commands())
    commands_of = ("-m ", "pipeline.compare", "pipeline.convert", "--help")
    for part in ("resume=", "mode=test", "debug=", "logger=", *commands_of):
        assert part in shown, part


@pytest.mark.slow
@pytest.mark.timeout(1800)  # some forty commands, most of which load a framework
def test_every_command_of_the_readme_works_in_the_order_it_stands_there(tmp_path):
    run(commands(), tmp_path)
    listed = {path.name for path in (tmp_path / "outputs").iterdir()}
    assert {"first", "second", "third", "sweep", "stopped", "fp64", "logs", "profile"} <= listed


@pytest.mark.slow
def test_every_command_of_the_page_on_clusters_that_needs_none_works(tmp_path):
    run(commands(CLUSTER), tmp_path)
    listed = {path.name for path in (tmp_path / "outputs").iterdir()}
    assert listed == {"two", "sides"}


@pytest.mark.slow
def test_every_command_of_the_page_on_wandb_that_needs_no_server_works(tmp_path):
    run(commands(WANDB), tmp_path)
    jobs = sorted(path.name for path in (tmp_path / "outputs" / "pair").glob("*_*"))
    assert [job.partition("_")[0] for job in jobs] == ["0", "1", "2", "3"]
    assert list((tmp_path / "outputs" / "pair" / "wandb").glob("offline-run-*"))
    assert (tmp_path / "outputs" / "kept" / "result.json").exists()


def test_the_page_on_wandb_names_what_there_is():
    for key in every_key():
        if key.path.startswith("logger.wandb."):
            assert key.path in WANDB, key.path
    for sweep in (ROOT / "sweeps").glob("*.yaml"):
        assert sweep.name in WANDB


def run(commands, folder):
    """Run commands one after the other in a folder, as they stand on the page."""
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "TANDEM_PROGRESS": "plain",
        "WANDB_MODE": "offline",
    }
    for command in commands:
        program, *arguments = shlex.split(command)
        done = subprocess.run(
            [
                PROGRAMS[program],
                *(str(ROOT / word) if word in SCRIPTS else word for word in arguments),
            ],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        interrupted = "train.stop_after" in command
        assert done.returncode == (130 if interrupted else 0), f"{command}\n{done.stderr}"


@pytest.mark.parametrize("target", re.findall(r"^    make (\w+)", README, re.MULTILINE))
def test_every_make_target_of_the_readme_exists(target):
    done = subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
