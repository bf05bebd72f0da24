"""Start commands by forking a process that has imported both frameworks.

Tests of whole commands spend most of their time on importing torch (4 s) or jax (2.5 s). A command
started here behaves like a new process: it has its own arguments, environment, folder, pipes, signals
and exit code. Python processes that it starts in turn (the ranks of a run, the fork server of a sweep)
are forked as well, and are its descendants. Tests of process start-up (the environment that libraries
read when they are imported, closed streams, early signals) need a cold start.

    python tests/warm_start.py KIND DESCRIPTOR

serves on a listening socket. The workers of pytest-xdist share one such process: its imports take 7 s.
A second one, without the frameworks, forks the commands that need none.
"""

import atexit
import fcntl
import gc
import os
import pickle
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from importlib import import_module
from multiprocessing import popen_spawn_posix, util
from pathlib import Path
from traceback import print_exc
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
MESSAGE = 1 << 18  # bytes of a request, at most

# Whose `subprocess.Popen` starts processes of the product.
STARTERS = (
    "pipeline.data.sources.decode_subprocess", "pipeline.devices.launch_ranks",
    "pipeline.run.transfer", "pipeline.storage.weights_file", "pipeline.sweep.processes.fork_server",
    "pipeline.sweep.run_job", "pipeline.verify.sides.side", "tandem.start",
)  # fmt: skip
CORE = (
    "hydra.main", "hydra._internal.hydra", "hydra._internal.callbacks", "pipeline.cli.main",
    "pipeline.cli.help", "pipeline.run.runner", "pipeline.sweep.objective",
    "pipeline.compare.comparison", "pipeline.verify.command",
)  # fmt: skip
IMPORTED = {
    "core": CORE,
    "whole": (
        *CORE, "sklearn.datasets", "scipy.stats", "wandb", "pipeline.verify.verdict_page.page",
        "lightning_impl.verify", "flax_impl.verify",
    ),
}  # fmt: skip
# Read by libraries while they are imported, or by Python when it starts. XLA reads its flags when it starts.
READ_AT_IMPORT = ("OMP_", "MKL_", "PYTHON", "LC_", "LANG", "TORCH", "JAX_ENABLE", "LD_")


class Process:
    """A forked command, with the part of `subprocess.Popen` that tests need."""

    def __init__(self, args, pid, status, stdout, stderr):
        self.args, self.pid, self.returncode = args, pid, None
        self.stdin, self.stdout, self.stderr = None, stdout, stderr
        self._status, self._readers = status, {}

    def poll(self):
        """Exit code, negative for a signal; None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout=None):
        """Wait for the exit code."""
        if self.returncode is None:
            with selectors.DefaultSelector() as selector:
                selector.register(self._status, selectors.EVENT_READ)
                if not selector.select(timeout):
                    raise subprocess.TimeoutExpired(self.args, timeout)
            written = os.read(self._status, 16)
            os.close(self._status)
            self.returncode = int(written) if written else -signal.SIGTERM  # ends with its server
        return self.returncode

    def communicate(self, timeout=None):
        """Wait for the end; return all output."""
        deadline = None if timeout is None else time.monotonic() + timeout
        for stream in (self.stdout, self.stderr):
            if stream is not None and stream not in self._readers:
                reader = _Reader(stream)
                reader.start()
                self._readers[stream] = reader
        for reader in self._readers.values():
            reader.join(None if deadline is None else max(0, deadline - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout)
        self.wait(None if deadline is None else max(0, deadline - time.monotonic()))
        ended = (self._readers.get(stream) for stream in (self.stdout, self.stderr))
        return tuple(reader and reader.text for reader in ended)

    def send_signal(self, number):
        """Signal it, if it runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self):
        """Kill it, if it runs."""
        self.send_signal(signal.SIGKILL)

    def terminate(self):
        """Ask it to end, if it runs."""
        self.send_signal(signal.SIGTERM)

    def __enter__(self):
        return self

    def __exit__(self, *raised):
        self.wait()


class _Reader(threading.Thread):
    """Reads a pipe to its end."""

    def __init__(self, stream):
        super().__init__(daemon=True)
        self.stream, self.text = stream, ""

    def run(self):
        with self.stream:
            self.text = self.stream.read()


class Forker:
    """Client of a process that forks commands."""

    def __init__(self, connection, environment):
        self.connection, self.environment, self.lock = connection, environment, threading.Lock()

    @classmethod
    def connect(cls, kind, environment):
        """Connect to the process that forks commands for all workers of this run; start it if there is none.

        `kind` is "core" or "whole". It ends with the last of them.
        """
        run = os.environ.get("PYTEST_XDIST_TESTRUNUID", os.getpid())
        folder = Path(tempfile.gettempdir(), f"tandem-warm-{run}")
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            with suppress(OSError):  # another worker starts it, or it is just ending
                folder.mkdir(mode=0o700, exist_ok=True)
                start_server(kind, folder / kind, environment)
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with suppress(OSError):
                connection.connect(str(folder / kind))
                if environment_of_server := connection.recv(MESSAGE):
                    return cls(connection, pickle.loads(environment_of_server))
            connection.close()
            time.sleep(0.05)
        raise TimeoutError(f"the process that forks does not answer in {folder}")

    def popen(
        self, args, cwd=None, env=None, stdout=None, stderr=None, stdin=None, text=True,
        start_new_session=False, preexec_fn=None, pass_fds=(),
    ):  # fmt: skip
        """Start a command as `subprocess.Popen` would, by forking this process."""
        args = [str(word) for word in args]
        assert text, "output is text"
        closed, streams, ends = [], {}, {1: 1, 2: 2}
        for number, wanted in ((1, stdout), (2, stderr)):
            if wanted == subprocess.PIPE:
                read, write = os.pipe()
                closed.append(write)
                streams[number], ends[number] = os.fdopen(read), write
            elif wanted == subprocess.STDOUT:
                ends[number] = ends[1]
            elif wanted == subprocess.DEVNULL:
                ends[number] = os.open(os.devnull, os.O_WRONLY)
                closed.append(ends[number])
            elif wanted is not None:
                ends[number] = wanted if isinstance(wanted, int) else wanted.fileno()
        status, written = os.pipe()
        closed.append(written)
        request = {
            "args": args[1:],
            "cwd": os.fspath(cwd or os.getcwd()),
            "env": {str(key): str(value) for key, value in (env or os.environ).items()},
            "setsid": start_new_session,
            "preexec": preexec_fn,
            "targets": [1, 2, *pass_fds],
        }
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        with self.lock:
            descriptors = [written, ends[1], ends[2], *pass_fds]
            socket.send_fds(self.connection, [pickle.dumps(request)], descriptors)
            answer = self.connection.recv(64)
        for descriptor in closed:
            os.close(descriptor)
        assert answer, "the process that forks has ended"
        return Process(args, int(answer), status, streams.get(1), streams.get(2))

    def close(self):
        """End all that it has forked, and with the last client the process that forks."""
        self.connection.close()


def start_server(kind, address, environment):
    """Start the process that forks; OSError if there is one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(address))
        listening.listen()
        subprocess.Popen(
            [sys.executable, __file__, kind, str(listening.fileno())],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=[listening.fileno()],
        )


def serve(listening=None, connection=None):
    """Fork a process for each request, until all connections are closed.

    Args:
        listening: a socket on which clients connect.
        connection: socket of the only client, in place of one to listen on.

    Returns:
        In a forked process its request; in this one None.
    """
    running = {}  # pidfd to the process, the pipe that takes its exit code, and the client
    selector, sockets = selectors.DefaultSelector(), {listening or connection}
    selector.register(listening or connection, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listening:
                client, _ = listening.accept()
                client.send(pickle.dumps(_started_with))  # imports have changed `os.environ`
                selector.register(client, selectors.EVENT_READ)
                sockets.add(client)
                continue
            if key.fileobj not in sockets:
                pid, status, _ = running.pop(key.fd)
                selector.unregister(key.fd)
                os.close(key.fd)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with suppress(BrokenPipeError):
                    os.write(status, str(code).encode())
                os.close(status)
                continue
            client = key.fileobj
            content, descriptors, *_ = socket.recv_fds(client, MESSAGE, 64)
            if not content:
                selector.unregister(client)
                sockets.remove(client)
                client.close()
                for pid, _, owner in running.values():
                    if owner is client:
                        os.kill(pid, signal.SIGTERM)  # as the end of this process does
                if sockets <= {listening}:
                    return None
                continue
            pid = os.fork()
            if pid == 0:
                for other in sockets:
                    other.close()
                selector.close()
                for handle, (_, status, _) in running.items():
                    os.close(handle)
                    os.close(status)
                os.close(descriptors[0])
                return pickle.loads(content) | {"descriptors": descriptors[1:]}
            for descriptor in descriptors[1:]:
                os.close(descriptor)
            handle = os.pidfd_open(pid)
            running[handle] = pid, descriptors[0], client
            selector.register(handle, selectors.EVENT_READ)
            client.send(str(pid).encode())


def become(args, cwd, env, setsid, preexec, targets, descriptors):
    """Make this forked process run the command as a new process would; does not return."""
    from setproctitle import setproctitle

    from pipeline.devices.process_exit import die_with_parent, fast_exit

    above = max(64, *targets) + 1
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, above) for descriptor in descriptors]
    for descriptor in descriptors:
        os.close(descriptor)
    for descriptor, target in zip(moved, targets, strict=True):
        os.dup2(descriptor, target)
        os.close(descriptor)
    # Streams made for these descriptors: those of the server remember its own files.
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    if setsid:
        os.setsid()
    if preexec:
        preexec()
    else:
        die_with_parent()
    setproctitle(" ".join([sys.executable, *args]))
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    code = 1
    try:
        fork_what_it_starts()
        run_as_main(args)
        code = 0
    except SystemExit as end:
        code = end.code or 0
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except KeyboardInterrupt:
        print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        print_exc()
    fast_exit(code)


def run_as_main(args):
    """Run a script or a `-m` module as the main program, as the Python command does."""
    safe_path = args[0] == "-P"
    args = args[safe_path:]
    added = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    added = [os.path.abspath(folder) for folder in added if folder]
    if args[0] == "-c":
        sys.argv[:] = ["-c", *args[2:]]
        sys.path[:0] = ["", *added]
        sys.modules["__main__"] = main = ModuleType("__main__")
        exec(args[1], vars(main))
    elif args[0] == "-m":
        name, *rest = args[1:]
        sys.argv[:] = [name, *rest]
        sys.path[:0] = added if safe_path else [os.getcwd(), *added]
        sys.modules.pop(name, None)
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = args
        sys.path[:0] = [os.path.dirname(os.path.abspath(args[0])), *added]
        runpy.run_path(args[0], run_name="__main__")


def fork_what_it_starts():
    """Have the Python processes that this one starts forked from a child as new as itself."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        from pipeline.devices.process_exit import die_with_parent

        die_with_parent()
        ours.close()
        request = serve(connection=theirs)
        if request is None:
            os._exit(0)
        become(**request)
    theirs.close()
    forker = Forker(ours, _started_with)
    for name in STARTERS:
        assert import_module(name).subprocess
        import_module(name).subprocess = Subprocess(forker)
    fork_what_is_spawned(forker)


def fork_what_is_spawned(forker):
    """Have the processes that `multiprocessing` spawns forked where that is equivalent."""
    forked = {}

    class Util:
        def __getattr__(self, name):
            return getattr(util, name)

        def spawnv_passfds(self, path, args, fds):
            command = [os.fsdecode(path), *args[args.index("-c") :]]
            if not is_warm(command, os.environ, forker.environment):
                return util.spawnv_passfds(path, args, fds)
            process = forker.popen(command, pass_fds=fds)
            forked[process.pid] = process
            return process.pid

    def poll(self, flag=os.WNOHANG):
        if self.pid not in forked:
            return super(popen_spawn_posix.Popen, self).poll(flag)
        self.returncode = forked[self.pid].poll() if flag else forked[self.pid].wait()
        return self.returncode

    popen_spawn_posix.util, popen_spawn_posix.Popen.poll = Util(), poll


class Subprocess:
    """The module `subprocess`, for code that starts processes of the product."""

    def __init__(self, forker):
        self.forker = forker

    def Popen(self, args, env=None, **options):
        """Start a process: forked where that is equivalent, otherwise a new one."""
        if is_warm(args, env or os.environ, self.forker.environment):
            return self.forker.popen(args, env=env, **options)
        return subprocess.Popen(args, env=env, **options)

    def run(self, args, *, env=None, cwd=None, stdout=None, capture_output=False, text=True):
        """Run a process to its end."""
        stdout, stderr = (subprocess.PIPE,) * 2 if capture_output else (stdout, None)
        with self.Popen(args, env=env, cwd=cwd, stdout=stdout, stderr=stderr, text=text) as process:
            output, errors = process.communicate()
        return subprocess.CompletedProcess(args, process.returncode, output, errors)

    def __getattr__(self, name):
        return getattr(subprocess, name)


def is_warm(
    args: Sequence[str], environment: Mapping[str, str], started_with: Mapping[str, str]
) -> bool:
    """Return whether a forked process does the same as a new one would."""
    python, *rest = map(str, args)
    script = rest[1:] if rest[0] == "-P" else rest
    known = script[0] in ("-m", "-c") or script[0].endswith(".py")
    changed = {
        key
        for key in environment.keys() | started_with.keys()
        if environment.get(key) != started_with.get(key)
        and key.startswith(READ_AT_IMPORT)
        and key not in ("PYTHONPATH", "MKL_NUM_THREADS")  # with OMP_NUM_THREADS, which is the same
    }
    return python == sys.executable and known and not changed


_started_with: dict[str, str] = {}  # the environment of the process that forks
_forkers: dict[str, Forker] = {}  # by kind


def forker_of(kind: str) -> Forker:
    """Client of the process of a kind that forks for all workers; it is started when first needed."""
    if kind not in _forkers:
        _forkers[kind] = Forker.connect(kind, os.environ | {"OMP_NUM_THREADS": "1"})
        atexit.register(_forkers[kind].close)
    return _forkers[kind]


def popen(
    args, *, cwd, env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cold=False, core=False
):
    """Start a command: forked where that is equivalent, otherwise as a new process.

    Args:
        args: Python, its script or `-m` module, and their arguments.
        cwd: the folder to run in.
        env: the whole environment.
        stdout: as in `subprocess.Popen`, as text.
        stderr: as in `subprocess.Popen`; merged into stdout by default.
        cold: whether to start a new process in any case.
        core: whether to fork a process without the frameworks, for a command that loads none. It is
            a tenth of the size, and forks in a tenth of the time.
    """
    pipes = {"cwd": cwd, "env": env, "stdout": stdout, "stderr": stderr, "text": True}
    if cold:
        return subprocess.Popen(args, **pipes)
    forker = forker_of("core" if core else "whole")
    if not is_warm(args, env, forker.environment):
        return subprocess.Popen(args, **pipes)
    return forker.popen(args, start_new_session=True, **pipes)


def run(args, *, cwd, env, stderr=subprocess.PIPE, timeout=300, cold=False, core=False):
    """Run a command to its end; arguments as for `popen`."""
    process = popen(args, cwd=cwd, env=env, stderr=stderr, cold=cold, core=core)
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return subprocess.CompletedProcess(args, process.returncode, output, errors)


def compose_once():
    """Compose a config, so that Hydra has found its plugins and imported what it needs.

    Its files are kept, so that no command reads them again: that takes a quarter of a composition.
    """
    from hydra import compose
    from hydra._internal.config_repository import ConfigRepository

    from pipeline.config.experiment import register
    from pipeline.config.hydra_compat import compose_from

    read, kept = ConfigRepository.load_config, {}

    def load(repository, config_path):
        key = config_path, *((source.provider, source.path) for source in repository.get_sources())
        if key not in kept:
            kept[key] = read(repository, config_path)
        return deepcopy(kept[key])  # Hydra changes what it has read

    ConfigRepository.load_config = load
    register()
    with compose_from(ROOT / "conf"):
        compose("config")


def main():
    """Run the process that forks, and each that it forks."""
    listening = socket.socket(fileno=int(sys.argv[2]))
    address = Path(listening.getsockname())
    _started_with.update(os.environ)
    sys.path[:] = [folder for folder in sys.path if folder != str(ROOT / "tests")]
    sys.path.insert(0, str(ROOT))
    from pipeline.devices.hardware import limit_threads
    from pipeline.run import backends

    limit_threads(None)
    if sys.argv[1] == "whole":
        for backend in backends.BACKENDS:
            backends.load(backend)
    for name in (*IMPORTED[sys.argv[1]], *STARTERS):
        import_module(name)
    compose_once()
    sys.path.remove(str(ROOT))
    sys.modules.pop("__main__").__dict__["__name__"] = "warm_start"
    warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
    gc.collect()
    gc.freeze()
    request = serve(listening)
    if request is None:
        with suppress(OSError):
            address.unlink()
            address.parent.rmdir()
        atexit._clear()
        os._exit(0)
    become(**request)


if __name__ == "__main__":
    main()
