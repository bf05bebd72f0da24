"""A device or core is locked by one process at a time, and released when that process ends."""

import os
import signal
import subprocess
import sys
import time
from select import select

import pytest

from pipeline.sweep.processes.file_locks import POLL, acquire

# Takes a lease, says what it got, and keeps it until its input ends; a child may inherit it.
HOLDER = """
import subprocess, sys
from pipeline.sweep.processes.file_locks import acquire
kind, names, count, heir = sys.argv[1], sys.argv[2].split(","), int(sys.argv[3]), sys.argv[4:]
waiting = lambda text: print("waits", flush=True)
with acquire(kind, names, count, report=waiting) as lease:
    if heir:
        child = subprocess.Popen(["sleep", "300"], pass_fds=lease.values())
        print(child.pid, flush=True)
    print(",".join(lease), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(monkeypatch, tmp_path):
    """A function that starts a process that holds locks; all are killed after the test."""
    monkeypatch.setenv("TANDEM_LOCKS", str(tmp_path))
    started = []

    def start(names, count=1, *heir):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, "gpu", names, str(count), *heir],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=300)


def next_line(process):
    """Next line that a holder prints."""
    return process.stdout.readline().strip()


def test_no_two_processes_hold_the_same_device_and_a_third_waits(holder):
    first, second = holder("0,1"), holder("0,1")
    assert {next_line(first), next_line(second)} == {"0", "1"}
    third = holder("0,1")
    assert next_line(third) == "waits"
    first.communicate(timeout=300)
    assert next_line(third) in ("0", "1")


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_of_a_killed_process_is_released(holder, sent):
    first = holder("0")
    assert next_line(first) == "0"
    second = holder("0")
    assert next_line(second) == "waits"
    first.send_signal(sent)
    assert next_line(second) == "0"


def test_a_device_stays_locked_while_a_child_that_inherited_the_lock_lives(holder):
    first = holder("0", 1, "heir")
    heir = int(next_line(first))
    assert next_line(first) == "0"
    first.kill()
    first.wait(timeout=300)
    with acquire("gpu", ["0"], 1, is_stopped=true_after(3)) as lease:
        assert lease is None
    os.kill(heir, signal.SIGKILL)
    with acquire("gpu", ["0"], 1) as lease:
        assert list(lease) == ["0"]


def test_processes_that_need_both_devices_take_turns(holder):
    waiting = [holder("0,1", 2), holder("1,0", 2), holder("0,1", 2)]
    lines = {process: next_line(process) for process in waiting}
    while waiting:
        [served] = [process for process in waiting if lines[process] != "waits"]
        assert sorted(lines[served].split(",")) == ["0", "1"]
        waiting.remove(served)
        served.communicate(timeout=300)
        if waiting:
            ready, *_ = select([process.stdout for process in waiting], [], [], 30)
            [next_one] = [process for process in waiting if process.stdout in ready]
            lines[next_one] = next_line(next_one)


def true_after(times):
    """A function that returns False for so many calls, and True from then on."""
    left = iter([False] * times)
    return lambda: next(left, True)


def test_a_process_that_gives_up_holds_no_lock(holder):
    first = holder("0")
    assert next_line(first) == "0"
    told = []
    with acquire("gpu", ["0", "1"], 2, true_after(3), lambda text: told.append("waits")) as lease:
        assert lease is None
    assert told == ["waits"]
    with acquire("gpu", ["1"], 1) as lease:
        assert list(lease) == ["1"]


def test_a_request_for_no_device_holds_no_lock(holder):
    with acquire("gpu", [], 0) as lease:
        assert lease == {}


def test_each_slurm_job_has_its_own_locks(holder, monkeypatch):
    first = holder("0")
    assert next_line(first) == "0"
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with acquire("gpu", ["0"], 1, true_after(1)) as lease:
        assert list(lease) == ["0"]


def test_waiting_processes_are_served_in_order_even_if_they_need_more(holder):
    small = [holder("0,1"), holder("0,1")]
    assert {next_line(process) for process in small} == {"0", "1"}
    large = holder("0,1", 2)
    assert next_line(large) == "waits"
    late = holder("0,1")
    assert next_line(late) == "waits"
    small[0].communicate(timeout=300)
    time.sleep(5 * POLL)  # `late` would have taken it by now
    small[1].communicate(timeout=300)
    assert sorted(next_line(large).split(",")) == ["0", "1"]
    large.communicate(timeout=300)
    assert next_line(late) in ("0", "1")
