"""Requeueing under Slurm: which runs are requeued, what is asked of Slurm, and how a run resumes."""

import json
import os
import signal
import subprocess
import sys

import pytest

from pipeline.devices.world import World
from pipeline.run.slurm_requeue import job_id, requeue_if_interrupted, resume_if_restarted

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
    """A function that puts a fake `scontrol` on the path; it returns a function that lists its calls."""

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
    """Write the folder of a run that a signal has interrupted."""
    result = {"status": "interrupted", "interrupted_by": by}
    (folder / "result.json").write_text(json.dumps(result))
    return folder


@pytest.mark.parametrize("warning", ["SIGUSR1", "SIGUSR2"])
def test_the_first_rank_requeues_a_signalled_run(warning, slurm, tmp_path):
    asked = slurm()
    assert requeue_if_interrupted(143, stopped(tmp_path, warning), World(size=2), JOB) == 143
    assert asked() == ["requeue 7"]


def test_other_ranks_do_not_requeue_and_exit_with_0_unless_they_failed(slurm, tmp_path):
    asked = slurm()
    assert (
        requeue_if_interrupted(143, stopped(tmp_path, "SIGUSR1"), World(rank=1, size=2), JOB) == 0
    )
    assert requeue_if_interrupted(1, tmp_path, World(rank=1, size=2), JOB) == 1, (
        "a failure stays one"
    )
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
def test_sigterm_requeues_a_run_only_on_preemption_or_at_the_time_limit(
    facts, again, slurm, tmp_path
):
    asked = slurm(**facts)
    requeue_if_interrupted(143, stopped(tmp_path, "SIGTERM"), World(), JOB)
    assert ("requeue 7" in asked()) == again


@pytest.mark.parametrize("code", [0, 1])
def test_a_run_that_no_signal_interrupted_is_not_requeued(code, slurm, tmp_path):
    asked = slurm()
    assert requeue_if_interrupted(code, stopped(tmp_path, "SIGUSR1"), World(), JOB) == code
    assert requeue_if_interrupted(130, stopped(tmp_path, None), World(), JOB) == 130, (
        "train.stop_after"
    )
    assert requeue_if_interrupted(143, stopped(tmp_path, "SIGUSR1"), World(), {}) == 143, (
        "no job of Slurm's"
    )
    assert asked() == []


def test_a_refused_requeue_is_reported(slurm, tmp_path, capsys):
    slurm(code=1)
    assert requeue_if_interrupted(143, stopped(tmp_path, "SIGUSR1"), World(), JOB) == 143
    assert "Slurm refused to requeue it" in capsys.readouterr().out


def test_an_array_task_is_identified_by_itself_and_not_by_the_array():
    array = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}
    assert job_id(JOB | array) == "7_2"


def test_a_restarted_job_resumes_in_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    again = {"SLURM_RESTART_COUNT": "1"}
    assert resume_if_restarted(["name=mine"], again) == ["name=mine"], "there is no checkpoint yet"
    checkpoint = tmp_path / "outputs/mine/checkpoints/000002"
    checkpoint.mkdir(parents=True)
    (checkpoint / "meta.json").write_text("{}")
    found = resume_if_restarted(["name=mine", "resume=outputs/other"], again)
    assert found == ["name=mine", "resume='outputs/mine'"]
    for same in (["-m", "name=mine"], ["mode=test", "name=mine"]):
        assert resume_if_restarted(same, again) == same
    assert resume_if_restarted(["name=mine"], {"SLURM_RESTART_COUNT": "0"}) == ["name=mine"]


HELD = """
import os, signal
from pipeline.devices.stop_signals import StopSignal
from pipeline.run.slurm_requeue import hold_signals
hold_signals()
os.kill(os.getpid(), signal.SIGUSR2)
os.kill(os.getpid(), signal.SIGTERM)
with StopSignal() as interruption:
    pass
os.kill(os.getpid(), signal.SIGTERM)
print(interruption.name, interruption.exit_code)
"""


def test_a_signal_before_the_run_listens_is_kept_and_a_later_one_does_not_end_it():
    done = subprocess.run(
        [sys.executable, "-c", HELD],
        env=os.environ | JOB,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() in (["SIGUSR2", "143"], ["SIGTERM", "143"])


def test_outside_slurm_signals_keep_their_default_effect():
    done = subprocess.run([sys.executable, "-c", HELD], timeout=300)
    assert done.returncode == -signal.SIGUSR2
