"""A job under Slurm: which stops are requeued, what is asked of Slurm, and how a run is gone on with."""

import json
import os
import signal
import subprocess
import sys

import pytest

from pipeline.requeue import going_on, job_id, last_word
from pipeline.world import World

# Stands for Slurm's own command, which is told nothing else than what a real one is.
SCONTROL = """#!/bin/sh
echo "$@" >> {log}
echo "   JobState={state} Reason={reason} Dependency=(null)"
echo "   PreemptEligibleTime=2026-01-01T00:00:00 PreemptTime={preempted}"
exit {code}
"""

JOB = {"SLURM_JOB_ID": "7"}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A function that puts an `scontrol` on the path; it gives what it was asked for."""

    def put(state="RUNNING", reason="None", preempted="None", code=0):
        log = tmp_path / "asked"
        command = tmp_path / "scontrol"
        command.write_text(
            SCONTROL.format(log=log, state=state, reason=reason, preempted=preempted, code=code)
        )
        command.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        return lambda: log.read_text().splitlines() if log.exists() else []

    return put


def stopped(folder, by):
    """The folder of a run that a signal has interrupted."""
    result = {"status": "interrupted", "interrupted_by": by}
    (folder / "result.json").write_text(json.dumps(result))
    return folder


@pytest.mark.parametrize("warning", ["SIGUSR1", "SIGUSR2"])
def test_a_warned_run_is_requeued_by_its_first_process(warning, slurm, tmp_path):
    asked = slurm()
    assert last_word(143, stopped(tmp_path, warning), World(size=2), JOB) == 143
    assert asked() == ["requeue 7"]


def test_the_others_leave_without_a_word_so_that_the_first_is_not_ended_with_them(slurm, tmp_path):
    asked = slurm()
    assert last_word(143, stopped(tmp_path, "SIGUSR1"), World(rank=1, size=2), JOB) == 0
    assert last_word(1, tmp_path, World(rank=1, size=2), JOB) == 1, "a failure stays one"
    assert asked() == []


@pytest.mark.parametrize(
    ("facts", "again"),
    [
        ({"preempted": "2026-01-01T00:00:00"}, True),
        ({"state": "COMPLETING", "reason": "TimeLimit"}, True),
        ({}, False),  # srun ends the others when a rank has failed
        ({"state": "CANCELLED"}, False),
        ({"state": "CANCELLED", "preempted": "2026-01-01T00:00:00"}, False),
    ],
)
def test_sigterm_is_a_request_to_go_on_later_only_if_slurm_says_so(facts, again, slurm, tmp_path):
    asked = slurm(**facts)
    last_word(143, stopped(tmp_path, "SIGTERM"), World(), JOB)
    assert ("requeue 7" in asked()) == again


@pytest.mark.parametrize("code", [0, 1])
def test_a_run_that_was_not_interrupted_asks_nothing(code, slurm, tmp_path):
    asked = slurm()
    assert last_word(code, stopped(tmp_path, "SIGUSR1"), World(), JOB) == code
    assert last_word(130, stopped(tmp_path, None), World(), JOB) == 130, "train.stop_after"
    assert last_word(143, stopped(tmp_path, "SIGUSR1"), World(), {}) == 143, "no job of Slurm's"
    assert asked() == []


def test_a_refusal_is_told(slurm, tmp_path, capsys):
    slurm(code=1)
    assert last_word(143, stopped(tmp_path, "SIGUSR1"), World(), JOB) == 143
    assert "Slurm does not take it back" in capsys.readouterr().out


def test_a_job_of_an_array_names_itself_and_not_the_array():
    array = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}
    assert job_id(JOB | array) == "7_2"


def test_a_job_that_was_started_again_goes_on_in_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    again = {"SLURM_RESTART_COUNT": "1"}
    assert going_on(["name=mine"], again) == ["name=mine"], "there is no checkpoint yet"
    checkpoint = tmp_path / "outputs/mine/checkpoints/000002"
    checkpoint.mkdir(parents=True)
    (checkpoint / "meta.json").write_text("{}")
    found = going_on(["name=mine", "resume=outputs/other"], again)
    assert found == ["name=mine", "resume='outputs/mine'"]
    for same in (["-m", "name=mine"], ["mode=test", "name=mine"]):
        assert going_on(same, again) == same
    assert going_on(["name=mine"], {"SLURM_RESTART_COUNT": "0"}) == ["name=mine"]


HELD = """
import os, signal
from pipeline.interruption import Interruption
from pipeline.requeue import hold_signals
hold_signals()
os.kill(os.getpid(), signal.SIGUSR2)
os.kill(os.getpid(), signal.SIGTERM)
with Interruption() as interruption:
    pass
os.kill(os.getpid(), signal.SIGTERM)
print(interruption.name, interruption.exit_code)
"""


def test_a_signal_before_the_run_listens_is_kept_and_one_after_does_not_end_it():
    done = subprocess.run(
        [sys.executable, "-c", HELD],
        env=os.environ | JOB,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() in (["SIGUSR2", "143"], ["SIGTERM", "143"])


def test_outside_of_slurm_the_signals_are_as_ever():
    done = subprocess.run([sys.executable, "-c", HELD], timeout=60)
    assert done.returncode == -signal.SIGUSR2
