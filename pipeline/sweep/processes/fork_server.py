"""Fork server: a process that has imported a backend and forks the jobs of a sweep.

    python -m pipeline.sweep.processes.fork_server BACKEND DESCRIPTOR

PyTorch and Lightning take seconds to import: with a fork server once per sweep, not once per job. A
forked job behaves like a new process, since the server computes nothing and touches no device.
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

from hydra.core.plugins import Plugins
from setproctitle import setproctitle

from pipeline.config.experiment import register
from pipeline.devices.hardware import limit_threads
from pipeline.devices.process_exit import bind_to_parent_and_cores, fast_exit


class ForkServerDied(Exception):
    """The fork server has ended, or cannot import its backend."""


class ForkServer:
    """Client of a fork server, in the process of the sweep; it starts the server.

    The server may run on `cores` (None for all), whose number sets the size of thread pools.
    """

    def __init__(self, backend: str, cores: Sequence[int] | None) -> None:
        self.connection, theirs = Pipe()
        self.environment = dict(os.environ)
        # The server has to find the same modules as this process.
        search = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
        module = [sys.executable, "-P", "-m", "pipeline.sweep.processes.fork_server"]
        self.process = subprocess.Popen(
            [*module, backend, str(theirs.fileno())],
            env=self.environment | {"PYTHONPATH": search},
            start_new_session=True,
            preexec_fn=partial(bind_to_parent_and_cores, cores),
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
        """Fork a job that inherits file descriptors.

        `command` is Python, a script and its arguments, and `environment` the job's whole environment. The
        job may run on `cores`; None for the server's.
        """
        job: dict[str, object] = {"arguments": command[1:], "environment": dict(environment)}
        job |= {"folder": os.getcwd(), "cores": cores}
        with suppress(OSError):  # `answer` raises if the server has ended
            self.connection.send((job, len(descriptors)))
            for descriptor in descriptors:
                send_handle(self.connection, descriptor, self.process.pid)
        return Forked(self, self.answer())

    def answer(self) -> int:
        """Receive the next number from the server: a process id or an exit code."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            raise ForkServerDied from None


@dataclass
class Forked:
    """A forked job, with part of the interface of `subprocess.Popen`.

    `returncode` is its exit code, or minus the signal that killed it; None while it runs.
    """

    server: ForkServer
    pid: int
    returncode: int | None = None

    def wait(self, timeout: float) -> int:
        """Wait for the job and return its exit code, or raise `TimeoutExpired`."""
        if self.returncode is None:
            if not self.server.connection.poll(timeout):
                raise subprocess.TimeoutExpired("job", timeout)
            try:
                self.returncode = self.server.answer()
            except ForkServerDied:  # so the job gets SIGTERM, and its exit code is lost
                while Path(f"/proc/{self.pid}").exists():
                    time.sleep(0.05)
                self.returncode = 128 + signal.SIGTERM
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal to the job if it is running."""
        if self.returncode is None:
            os.kill(self.pid, number)


_servers: dict[tuple[str, int | None], ForkServer] = {}


def fork_server(backend: str, cores: Sequence[int] | None) -> ForkServer:
    """Return this process's server for a backend and a number of cores, started on first use.

    It is replaced if it has died, or if `hydra.job.env_set` has changed the environment.
    """
    key = backend, None if cores is None else len(cores)
    server = _servers.get(key)
    if server is None or server.process.poll() is not None or server.environment != os.environ:
        server = _servers[key] = ForkServer(backend, cores)  # ends a previous one
    return server


def serve(connection: Connection) -> dict[str, Any] | None:
    """Fork a job for each request, and reply with its process id, then with its exit code.

    It returns the arguments of `become` in a job, and None in the server, once the connection is closed.
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
            os.close(descriptor)  # the server must not keep the locks
        connection.send(job)
        _, status = os.waitpid(job, 0)
        connection.send(os.waitstatus_to_exitcode(status))


def become(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: str,
    cores: Sequence[int] | None,
) -> NoReturn:
    """Run a script with its arguments in this process, as if it were new, then exit.

    `environment` is the whole environment and `folder` the working folder. The process may run on
    `cores`; None for the server's.
    """
    os.setsid()  # signals reach it once, from the sweep
    bind_to_parent_and_cores(cores)
    setproctitle(" ".join([sys.executable, *arguments]))  # before the environment changes
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
    fast_exit(code if isinstance(code, int) else 1)


def load_what_jobs_need() -> None:
    """Import the rest of what a job imports, Hydra's plugins included, and register the schema."""
    import_module("pipeline.run.runner")
    import_module("pipeline.cli.main")
    register()
    Plugins.instance()


def main() -> None:
    """Run the fork server, and in its children the jobs."""
    backend, descriptor = sys.argv[1:]
    connection = Connection(int(descriptor))
    limit_threads(None)
    from pipeline.run import backends  # loads NumPy, which the sweep does not need

    backends.load(backend)
    load_what_jobs_need()
    gc.freeze()  # garbage collection in a job must not copy the memory shared with the server
    connection.send(0)
    asked = serve(connection)
    if asked is None:
        fast_exit(0)
    become(**asked)


if __name__ == "__main__":
    main()
