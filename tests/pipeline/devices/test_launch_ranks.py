"""The launcher reports the rank that failed first; stand-in commands take the place of ranks."""

import sys

import pytest

from pipeline.devices import launch_ranks
from pipeline.storage.run_folder import RunFolder

RANK = """
import os, signal, sys, time
from pathlib import Path
from pipeline.devices.launch_ranks import run_rank
from pipeline.devices.world import find_world
from pipeline.errors import UserError

folder, failing, ending = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

def run():
    if os.environ["RANK"] != failing:
        # As a collective operation, which fails after the other rank.
        while ending == "refuse" and not (folder / f"rank-{failing}.json").exists():
            time.sleep(0.01)
        raise RuntimeError("connection reset by peer")
    if ending == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    raise UserError("key", "value", "another")

sys.exit(run_rank(run, folder, find_world()))
"""


@pytest.fixture
def launch(tmp_path, monkeypatch, capfd):
    """A function that launches two ranks, one of which fails; returns stderr and the error of the result."""
    monkeypatch.setattr(launch_ranks, "PATIENCE", 5.0)

    def launch(failing, ending):
        command = [sys.executable, "-c", RANK, str(tmp_path), str(failing), ending]
        monkeypatch.setattr(launch_ranks, "run_command", lambda *_: command)
        assert launch_ranks.launch_ranks([], tmp_path, 2) == 1
        return capfd.readouterr().err, RunFolder(tmp_path).result.error

    return launch


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_is_reported_instead_of_the_errors_it_caused(launch, rank):
    output, error = launch(rank, "kill")
    assert error == f"rank {rank} of 2 was killed by SIGKILL"
    assert output == f"error: {error}\n"


def test_the_error_of_the_rank_that_failed_first_is_reported(launch):
    output, error = launch(1, "refuse")
    assert error == "rank 1 of 2 failed: key=value: must be another."
    assert output == f"error: {error}\n"
    assert launch(0, "refuse")[1] == "key=value: must be another."


def test_a_rank_that_left_no_error_is_reported_with_its_exit_code():
    assert launch_ranks.failed_rank([0, 143, 3]) == "rank 2 of 3 ended with exit code 3"
