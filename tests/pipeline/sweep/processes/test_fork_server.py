"""The fork server of a sweep: forked jobs behave like new processes."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from pipeline.sweep.processes.fork_server import ForkServer, ForkServerDied, fork_server

TELL = """
import json, os, sys
from pathlib import Path
import jax
from jax._src import xla_bridge
Path(sys.argv[1]).write_text(json.dumps({
    "arguments": sys.argv[2:], "name": __name__, "folder": os.getcwd(), "parent": os.getppid(),
    "environment": dict(os.environ), "session": os.getsid(0), "pid": os.getpid(),
    "cores": sorted(os.sched_getaffinity(0)), "devices": list(xla_bridge._backends),
    "mark": hasattr(sys, "mark"),
    "modules": [name for name in sys.modules if name.startswith(("pipeline", "hydra"))],
}))
sys.mark = True
"""


@pytest.fixture(scope="module")
def server():
    """A fork server for JAX and all cores."""
    return ForkServer("jax", None)


@pytest.fixture
def start(server, tmp_path, monkeypatch):
    """A function that has the server fork a script in `tmp_path`."""
    monkeypatch.chdir(tmp_path)

    def started(script, *arguments, cores=None, descriptors=(), by=server, **environment):
        (tmp_path / "script.py").write_text(script)
        command = [sys.executable, str(tmp_path / "script.py"), *arguments]
        return by.start(command, os.environ | environment, cores, descriptors)

    return started


def test_a_job_has_its_own_arguments_environment_folder_session_and_cores(start, server, tmp_path):
    core = min(os.sched_getaffinity(0))
    assert start(TELL, "told.json", "a=1", cores=[core], COLOUR="green").wait(60) == 0
    told = json.loads((tmp_path / "told.json").read_text())
    assert told["arguments"] == ["a=1"]
    assert told["name"] == "__main__"
    assert told["folder"] == str(tmp_path)
    assert told["environment"] == dict(os.environ) | {"COLOUR": "green"}
    assert told["session"] == told["pid"]
    assert told["cores"] == [core]
    assert told["parent"] == server.process.pid


def test_a_job_sees_no_state_of_the_job_before_and_no_device_in_use(start, tmp_path):
    for name in ("one.json", "two.json"):
        assert start(TELL, name).wait(60) == 0
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one.json", "two.json"))
    assert one["parent"] == two["parent"]
    assert one["pid"] != two["pid"]
    assert (one["mark"], two["mark"]) == (False, False)
    assert (one["devices"], two["devices"]) == ([], [])


def test_a_job_finds_what_it_needs_imported(start, tmp_path):
    assert start(TELL, "told.json").wait(60) == 0
    modules = json.loads((tmp_path / "told.json").read_text())["modules"]
    assert {"pipeline.cli.main", "pipeline.run.runner", "hydra_plugins.tandem_grid"} <= set(modules)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("", 0),
        ("import sys; sys.exit(3)", 3),
        ("import sys; sys.exit('no')", 1),
        ("raise ValueError", 1),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    ],
)
def test_exit_codes_are_those_of_a_new_process(start, tmp_path, script, code):
    assert start(script).wait(60) == code
    assert subprocess.run([sys.executable, str(tmp_path / "script.py")]).returncode == code


def test_the_process_list_shows_the_command_of_a_job(start, tmp_path):
    child = start("import time; time.sleep(60)", "seed=1")
    while (command := psutil.Process(child.pid).cmdline())[-1] != "seed=1":
        assert command[1:4] == [
            "-P",
            "-m",
            "pipeline.sweep.processes.fork_server",
        ]  # it has just begun
    assert command == [sys.executable, str(tmp_path / "script.py"), "seed=1"]
    child.send_signal(signal.SIGKILL)
    child.wait(10)


def test_a_running_job_can_be_waited_for_and_signalled(start):
    child = start("import time; time.sleep(60)")
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.1)
    child.send_signal(signal.SIGTERM)
    assert child.wait(10) == -signal.SIGTERM
    child.send_signal(signal.SIGTERM)  # to nobody: another process may have its number now


def test_inherited_files_are_held_by_the_job_and_not_by_the_server(start, tmp_path):
    with open(tmp_path / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        child = start("import time; time.sleep(60)", descriptors=[lock.fileno()])
    with open(tmp_path / "lock", "w") as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        child.send_signal(signal.SIGKILL)
        child.wait(10)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


SAVES = """
import signal, sys, time
from pathlib import Path

def save(*_):
    time.sleep(1)
    Path("saved").touch()
    sys.exit(143)

signal.signal(signal.SIGTERM, save)
Path("ready").touch()
time.sleep(60)
"""


def test_a_job_whose_server_is_killed_is_asked_to_end_and_saves(start, tmp_path):
    server = ForkServer("jax", None)
    child = start(SAVES, by=server)
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    server.process.kill()
    assert child.wait(10) == 143
    assert (tmp_path / "saved").exists()
    assert not psutil.pid_exists(child.pid)
    with pytest.raises(ForkServerDied):
        start("", by=server)


def test_jobs_of_one_backend_and_number_of_cores_share_a_server_until_it_dies(warm_processes):
    one, two = sorted(os.sched_getaffinity(0))[:2]
    first = fork_server("jax", [one])
    assert fork_server("jax", [two]) is first
    assert fork_server("jax", [one, two]) is not first
    first.process.kill()
    first.process.wait()
    assert fork_server("jax", [one]).process.pid != first.process.pid


def test_another_environment_starts_a_new_server_and_ends_the_old_one(monkeypatch, warm_processes):
    first = fork_server("jax", None).process
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    second = fork_server("jax", None)
    assert second.process.pid != first.pid
    assert first.wait(10) == 0
    assert fork_server("jax", None) is second


def test_a_backend_that_cannot_be_imported_is_reported(capfd):
    with pytest.raises(ForkServerDied):
        ForkServer("numpy", None)
    assert "one of torch, jax" in capfd.readouterr().err
