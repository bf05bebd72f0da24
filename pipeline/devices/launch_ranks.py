"""Launcher of the ranks of a run on one machine: it starts, watches and ends them together.

Unlike torchrun, it does not load torch, and it reports the error of the rank that failed first.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from traceback import print_exception

from pipeline.atomic_files import read_json, write_json
from pipeline.child_command import run_command
from pipeline.devices.process_exit import die_with_parent
from pipeline.devices.stop_signals import StopSignal
from pipeline.devices.world import TORCHRUN_VARIABLES, World
from pipeline.errors import RunFailed, UserError
from pipeline.job_context import job_context
from pipeline.storage.run_folder import RunFolder

PATIENCE = 10.0  # seconds until the other ranks are killed after one has failed
GRACE = 1.0  # seconds for the rank that failed first to write its error
POLL = 0.1

NOT_FAILED = (0, 130, 143)  # exit codes: completed or interrupted


def launch_ranks(arguments: Sequence[str], folder: Path, count: int) -> int:
    """Run one command line as `count` ranks of one run, and return the run's exit code.

    If a rank failed, the code is 1, and the error is printed and saved.
    """
    for note in folder.glob("rank-*.json"):  # of an earlier attempt
        note.unlink(missing_ok=True)
    port = free_port()
    with StopSignal() as stop:
        launch = f"{os.getpid()} {port} {time.time_ns()}"
        ranks = [start_rank(arguments, folder, rank, count, port, launch) for rank in range(count)]
        try:
            killed = wait_for_ranks(ranks, stop)
        finally:
            for rank in ranks:
                kill_rank(rank)
    codes = [rank.returncode for rank in ranks]
    if all(code in NOT_FAILED for code in codes):
        return max(codes)
    error = killed_rank(codes, killed) or first_failure(folder, count) or failed_rank(codes)
    print(f"error: {error}", file=sys.stderr)
    RunFolder(folder).write_failure(error)
    return 1


def start_rank(
    arguments: Sequence[str], folder: Path, rank: int, count: int, port: int, launch: str
) -> subprocess.Popen:
    """Start one rank in its own session, so that signals reach it once, from the launcher."""
    values = map(str, (rank, count, rank, count, "127.0.0.1", port))
    variables = dict(zip(TORCHRUN_VARIABLES, values, strict=True))
    context = replace(job_context(), is_rank=True, launch=launch)
    return subprocess.Popen(
        run_command(arguments, folder),
        env=os.environ | context.variables() | variables,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )


def wait_for_ranks(ranks: Sequence[subprocess.Popen], stop: StopSignal) -> set[int]:
    """Forward signals until all ranks have ended; kill the others once one has failed.

    Returns the ranks killed by the launcher.
    """
    forwarded, deadline = None, None
    while running := [rank for rank in ranks if rank.poll() is None]:
        if stop.signal is not None and stop.signal != forwarded:
            forwarded = stop.signal
            for rank in running:
                rank.send_signal(forwarded)
        if deadline is None and any(rank.returncode not in (None, *NOT_FAILED) for rank in ranks):
            deadline = time.monotonic() + PATIENCE
        if deadline is not None and time.monotonic() > deadline:
            for rank in running:
                kill_rank(rank)
            return {ranks.index(rank) for rank in running}
        time.sleep(POLL)
    return set()


def kill_rank(rank: subprocess.Popen) -> None:
    """Kill a rank and its child processes."""
    with suppress(ProcessLookupError):
        os.killpg(rank.pid, signal.SIGKILL)
    rank.wait()


def killed_rank(codes: Sequence[int], killed: set[int]) -> str | None:
    """Message about a rank that a signal killed, except for the ranks that the launcher killed."""
    for rank, code in enumerate(codes):
        if code < 0 and rank not in killed:
            return f"rank {rank} of {len(codes)} was killed by {signal.Signals(-code).name}"
    return None


def failed_rank(codes: Sequence[int]) -> str:
    """Message about the first rank that failed."""
    failed = next(rank for rank, code in enumerate(codes) if code not in NOT_FAILED)
    return f"rank {failed} of {len(codes)} ended with exit code {codes[failed]}"


def run_rank(run: Callable[[], int], folder: Path, world: World) -> int:
    """Call `run`, which returns an exit code; after an error, write it and exit at once."""
    note = folder / f"rank-{world.rank}.json"
    note.unlink(missing_ok=True)
    try:
        return run()
    except Exception as error:
        write_json(note, {"rank": world.rank, "error": str(error), "at": time.time()})
        if not job_context().is_rank:
            report_error(error, folder, world)
    # A normal exit runs the exit handlers of the libraries, which would wait for the other ranks.
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def report_error(error: Exception, folder: Path, world: World) -> None:
    """Print an error and write it to the run's result, for launchers other than ours.

    Every rank does this, since the framework may end rank 0 before it can.
    """
    if isinstance(error, UserError | RunFailed):
        print(f"error: rank {world.rank} of {world.size} failed: {error}", file=sys.stderr)
    else:
        print_exception(error)
    time.sleep(GRACE)
    RunFolder(folder).write_failure(first_failure(folder, world.size))


def first_failure(folder: Path, ranks: int) -> str | None:
    """Message about the rank that failed first, the likely cause of the others; None without failures.

    It names the rank, unless rank 0 has the same error, such as bad input.
    """
    failures = list(filter(None, map(read_json, folder.glob("rank-*.json"))))
    if not failures:
        return None
    first = min(failures, key=lambda failure: failure["at"])
    if any(failure["rank"] == 0 and failure["error"] == first["error"] for failure in failures):
        return first["error"]
    return f"rank {first['rank']} of {ranks} failed: {first['error']}"


def free_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
