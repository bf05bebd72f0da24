"""A device or core is leased to one process at a time, and comes back when that one is gone."""

import os
import signal
import subprocess
import sys
import time
from select import select

import pytest

from pipeline.leases import POLL, leased

# Takes a lease, says what it got, and keeps it until its input ends; a child may inherit it.
HOLDER = """
import subprocess, sys
from pipeline.leases import leased
kind, names, count, heir = sys.argv[1], sys.argv[2].split(","), int(sys.argv[3]), sys.argv[4:]
waiting = lambda: print("waits", flush=True)
with leased(kind, names, count, waiting=waiting) as lease:
    if heir:
        child = subprocess.Popen(["sleep", "300"], pass_fds=lease.descriptors)
        print(child.pid, flush=True)
    print(",".join(lease.names), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(monkeypatch, tmp_path):
    """A function that starts a process that takes a lease; they are all ended afterwards."""
    monkeypatch.setenv("TANDEM_LEASES", str(tmp_path))
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
        process.communicate(timeout=30)


def said(process):
    """The next line that a holder prints."""
    return process.stdout.readline().strip()


def test_no_two_processes_hold_the_same_device_and_the_third_waits_for_one_of_them(holder):
    first, second = holder("0,1"), holder("0,1")
    assert {said(first), said(second)} == {"0", "1"}
    third = holder("0,1")
    assert said(third) == "waits"
    first.communicate(timeout=30)
    assert said(third) in ("0", "1")


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_the_device_of_a_killed_process_is_given_out_again(holder, sent):
    first = holder("0")
    assert said(first) == "0"
    second = holder("0")
    assert said(second) == "waits"
    first.send_signal(sent)
    assert said(second) == "0"


def test_a_device_stays_taken_while_a_process_lives_that_has_inherited_it(holder):
    first = holder("0", 1, "heir")
    heir = int(said(first))
    assert said(first) == "0"
    first.kill()
    first.wait(timeout=30)
    with leased("gpu", ["0"], 1, given_up=after(3)) as lease:
        assert lease is None
    os.kill(heir, signal.SIGKILL)
    with leased("gpu", ["0"], 1) as lease:
        assert lease.names == ["0"]


def test_two_that_need_both_devices_have_them_in_turn(holder):
    waiting = [holder("0,1", 2), holder("1,0", 2), holder("0,1", 2)]
    lines = {process: said(process) for process in waiting}
    while waiting:
        [served] = [process for process in waiting if lines[process] != "waits"]
        assert sorted(lines[served].split(",")) == ["0", "1"]
        waiting.remove(served)
        served.communicate(timeout=30)
        if waiting:
            ready, *_ = select([process.stdout for process in waiting], [], [], 30)
            [next_one] = [process for process in waiting if process.stdout in ready]
            lines[next_one] = said(next_one)


def after(times):
    """A question that is answered with yes when it has been asked so often."""
    left = iter([False] * times)
    return lambda: next(left, True)


def test_who_gives_up_holds_nothing(holder):
    first = holder("0")
    assert said(first) == "0"
    told = []
    with leased("gpu", ["0", "1"], 2, after(3), lambda: told.append("waits")) as lease:
        assert lease is None
    assert told == ["waits"]
    with leased("gpu", ["1"], 1) as lease:
        assert lease.names == ["1"]


def test_nothing_is_needed_and_nothing_is_held(holder):
    with leased("gpu", [], 0) as lease:
        assert (lease.names, lease.descriptors) == ([], [])


def test_each_job_of_slurms_has_leases_of_its_own(holder, monkeypatch):
    first = holder("0")
    assert said(first) == "0"
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    with leased("gpu", ["0"], 1, after(1)) as lease:
        assert lease.names == ["0"]


def test_those_who_wait_are_served_even_if_they_need_more(holder):
    small = [holder("0,1"), holder("0,1")]
    assert {said(process) for process in small} == {"0", "1"}
    large = holder("0,1", 2)
    assert said(large) == "waits"
    late = holder("0,1")
    assert said(late) == "waits"
    small[0].communicate(timeout=30)
    time.sleep(5 * POLL)  # `late` would have taken it by now
    small[1].communicate(timeout=30)
    assert sorted(said(large).split(",")) == ["0", "1"]
    large.communicate(timeout=30)
    assert said(late) in ("0", "1")
