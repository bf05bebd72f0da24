"""A process that has imported a backend, and forks the jobs of a sweep: they start at once.

    python -m pipeline.fork_server BACKEND DESCRIPTOR

PyTorch and Lightning take seconds to import. A sweep pays for that once, not in each of its jobs; and a
job still finds what a new process would, since its parent has computed nothing and touched no device.
"""

import gc
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from traceback import print_exc
from typing import Any, NoReturn

from setproctitle import setproctitle

from pipeline import backends
from pipeline.hardware import bound_threads
from pipeline.processes import leave, tie

POLL = 0.05


class ForkServerDied(Exception):
    """The process that forks has ended."""


class ForkServer:
    """The process that forks, as the sweep sees it.

    Args:
        backend: that it imports.
        cores: that it may run on, after whose number libraries size their pools; None for all.

    Raises:
        ForkServerDied: the backend cannot be imported.
    """

    def __init__(self, backend: str, cores: Sequence[int] | None) -> None:
        self.connection, theirs = Pipe()
        self.environment = dict(os.environ)
        # What this process can import, the server can.
        search = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pipeline.fork_server", backend, str(theirs.fileno())],
            env=self.environment | {"PYTHONPATH": search},
            start_new_session=True,
            preexec_fn=partial(tie, cores),
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self.answer()

    def start(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        cores: Sequence[int] | None,
        descriptors: Sequence[int],
    ) -> "Forked":
        """Fork a job.

        Args:
            command: Python, a script and its arguments.
            environment: all of it.
            cores: that the job may run on; None for those of the server.
            descriptors: open files for it to inherit.

        Raises:
            ForkServerDied: the server has ended.
        """
        job = {
            "arguments": command[1:],
            "environment": dict(environment),
            "folder": os.getcwd(),
            "cores": cores,
        }
        with suppress(OSError):  # the answer tells
            self.connection.send((job, len(descriptors)))
            for descriptor in descriptors:
                send_handle(self.connection, descriptor, self.process.pid)
        return Forked(self, self.answer())

    def is_fit(self) -> bool:
        """Whether it lives, and what it has imported has seen the environment that there is now.

        Hydra's `hydra.job.env_set` may give each job another.
        """
        return self.process.poll() is None and self.environment == dict(os.environ)

    def answer(self) -> int:
        """What the server says next.

        Raises:
            ForkServerDied: nothing, it has ended.
        """
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            raise ForkServerDied from None


@dataclass
class Forked:
    """A job that was forked; as far as it goes like `subprocess.Popen`.

    Args:
        server: its parent.
        pid: of its process.
        returncode: its exit code, or minus the signal that killed it; None while it runs.
    """

    server: ForkServer
    pid: int
    returncode: int | None = None

    def wait(self, timeout: float) -> int:
        """Its exit code.

        Raises:
            subprocess.TimeoutExpired: it runs for longer than `timeout` seconds.
        """
        if self.returncode is None:
            if not self.server.connection.poll(timeout):
                raise subprocess.TimeoutExpired("job", timeout)
            try:
                self.returncode = self.server.answer()
            except ForkServerDied:
                self.returncode = self._end_of_an_orphan()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Signal it, if it runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def _end_of_an_orphan(self) -> int:
        """Wait for a job that was asked to end because its parent had; nobody is told its exit code."""
        while Path(f"/proc/{self.pid}").exists():
            time.sleep(POLL)
        return 128 + signal.SIGTERM


_servers: dict[tuple[str, int | None], ForkServer] = {}


def fork_server(backend: str, cores: Sequence[int] | None) -> ForkServer:
    """The server of this process for a backend and a number of cores, started when it is first needed.

    Raises:
        ForkServerDied: the backend cannot be imported.
    """
    key = backend, None if cores is None else len(cores)
    server = _servers.get(key)
    if server is None or not server.is_fit():
        server = _servers[key] = ForkServer(backend, cores)  # one that was there ends by this
    return server


def serve(connection: Connection) -> dict[str, Any] | None:
    """Fork a job for each that is asked for, and tell its process and then its exit code.

    Returns:
        In a job what `become` takes; in the server None, when nobody asks any more.
    """
    while True:
        try:
            asked, descriptors = connection.recv()
        except EOFError:
            return None
        inherited = [recv_handle(connection) for _ in range(descriptors)]
        job = os.fork()
        if job == 0:
            connection.close()
            return asked
        for descriptor in inherited:
            os.close(descriptor)  # or what it locks would stay locked
        connection.send(job)
        _, status = os.waitpid(job, 0)
        connection.send(os.waitstatus_to_exitcode(status))


def become(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: str,
    cores: Sequence[int] | None,
) -> NoReturn:
    """Make this process a job, as if it had been started anew.

    Args:
        arguments: the script, and what it is given.
        environment: all of it.
        folder: to work in.
        cores: to run on; None for those that there are.
    """
    os.setsid()  # signals reach it once, from the sweep
    tie(cores)
    setproctitle(" ".join([sys.executable, *arguments]))  # before the environment is another
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv[:] = arguments
    sys.path.insert(0, str(Path(arguments[0]).parent))
    code: object = 1
    try:
        runpy.run_path(arguments[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        print_exc()
    leave(code if isinstance(code, int) else 1)


def main() -> None:
    """The process that forks, and each job that it has forked."""
    backend, descriptor = sys.argv[1:]
    connection = Connection(int(descriptor))
    bound_threads(None)
    backends.load(backend)
    import_module("pipeline.experiment")  # what every job needs beside it
    gc.freeze()  # a job that collects its garbage leaves what it shares with the others alone
    connection.send(0)
    asked = serve(connection)
    if asked is None:
        leave(0)
    become(**asked)


if __name__ == "__main__":
    main()
