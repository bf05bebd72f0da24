"""The README's commands work as they stand there, one after the other, in one folder."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def commands():
    """Every command in the README's sh blocks, in order."""
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_the_readme_shows_commands_of_every_kind():
    shown = " ".join(commands())
    commands_of = ("-m ", "pipeline.compare", "pipeline.convert", "--help")
    for part in ("resume=", "mode=test", "debug=", "logger=", *commands_of):
        assert part in shown, part


@pytest.mark.slow
@pytest.mark.timeout(1800)  # some forty commands, most of which load a framework
def test_every_command_of_the_readme_works_in_the_order_it_stands_there(tmp_path):
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "TANDEM_PROGRESS": "plain",
        "WANDB_MODE": "offline",
    }
    for command in commands():
        python, *arguments = shlex.split(command)
        assert python == "python"
        if arguments[0] == "run.py":
            arguments[0] = str(ROOT / "run.py")
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        interrupted = "train.stop_after" in command
        assert done.returncode == (130 if interrupted else 0), f"{command}\n{done.stderr}"
    listed = {path.name for path in (tmp_path / "outputs").iterdir()}
    assert {"first", "second", "third", "sweep", "stopped", "fp64", "logs", "profile"} <= listed


@pytest.mark.parametrize("target", re.findall(r"^    make (\w+)", README, re.MULTILINE))
def test_every_make_target_of_the_readme_exists(target):
    done = subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
