"""The processes of a run on one machine: started, watched, and ended together.

What torchrun does, without loading torch, and telling the error of the one that failed first.
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
from pathlib import Path
from traceback import print_exception
from typing import NoReturn

from pipeline.arguments import run_command
from pipeline.errors import RunFailed, UserError
from pipeline.failures import first_failure, forget_failures, note_failure
from pipeline.interruption import Interruption
from pipeline.processes import die_with_parent
from pipeline.runs import RESULT, read_json, write_json
from pipeline.world import World

SUPERVISED = "TANDEM_SUPERVISED"  # tells a rank that its error will be told for it

PATIENCE = 10.0  # seconds that the others have to end by themselves when one has failed
GRACE = 1.0  # for the one that failed first to note why, before it is asked
POLL = 0.1


def supervise(arguments: Sequence[str], folder: Path, count: int) -> int:
    """Run one command as `count` processes of one run.

    Args:
        arguments: of the command line.
        folder: of the run.
        count: processes.

    Returns:
        The exit code of the run; where a rank failed, 1, and its error is told and in the result.
    """
    forget_failures(folder)
    port = free_port()
    with Interruption() as interruption:
        ranks = [start(arguments, folder, rank, count, port) for rank in range(count)]
        try:
            killed = wait(ranks, interruption)
        finally:
            for rank in ranks:
                end(rank)
    codes = [rank.returncode for rank in ranks]
    if all(code in (0, 130, 143) for code in codes):
        return max(codes)
    error = told(folder, codes, killed)
    print(f"error: {error}", file=sys.stderr)
    amend(folder, error)
    return 1


def amend(folder: Path, error: str) -> None:
    """Make `error` the one that the run's result tells."""
    result = read_json(folder / RESULT) or {}
    write_json(folder / RESULT, result | {"status": "failed", "error": error})


def start(
    arguments: Sequence[str], folder: Path, rank: int, count: int, port: int
) -> subprocess.Popen:
    """Start one rank, in a session of its own: signals reach it once, from here."""
    environment = os.environ | {
        "RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        SUPERVISED: "1",
    }
    return subprocess.Popen(
        run_command(arguments, folder),
        env=environment,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )


def wait(ranks: Sequence[subprocess.Popen], interruption: Interruption) -> set[int]:
    """Until all have ended, passing signals on; soon after one has failed the others are killed.

    Returns:
        The ranks that were killed from here.
    """
    passed_on, deadline = None, None
    while running := [rank for rank in ranks if rank.poll() is None]:
        if interruption.signal not in (None, passed_on):
            passed_on = interruption.signal
            for rank in running:
                rank.send_signal(passed_on)
        if deadline is None and any(rank.returncode not in (None, 0, 130, 143) for rank in ranks):
            deadline = time.monotonic() + PATIENCE
        if deadline is not None and time.monotonic() > deadline:
            for rank in running:
                end(rank)
            return {ranks.index(rank) for rank in running}
        time.sleep(POLL)
    return set()


def end(rank: subprocess.Popen) -> None:
    """Kill a rank with all that it has started; nothing to do where none is left."""
    with suppress(ProcessLookupError):
        os.killpg(rank.pid, signal.SIGKILL)
    rank.wait()


def told(folder: Path, codes: Sequence[int], killed: set[int]) -> str:
    """The error of the rank that failed first.

    Args:
        folder: of the run.
        codes: exit codes of the ranks.
        killed: those that were ended because another had failed.
    """
    for rank, code in enumerate(codes):
        if code < 0 and rank not in killed:  # it had no time to note anything
            return f"rank {rank} of {len(codes)} was killed by {signal.Signals(-code).name}"
    if noted := first_failure(folder, len(codes)):
        return noted
    failed = next(rank for rank, code in enumerate(codes) if code not in (0, 130, 143))
    return f"rank {failed} of {len(codes)} ended with exit code {codes[failed]}"


def run_rank(run: Callable[[], int], folder: Path, world: World) -> int:
    """One process of several; if it fails it notes why, and ends without waiting for the others.

    Args:
        run: what it does; gives its exit code.
        folder: of the run.
        world: whose process it is.
    """
    (folder / f"rank-{world.rank}.json").unlink(missing_ok=True)
    try:
        return run()
    except Exception as error:
        note_failure(folder, world.rank, error)
        if SUPERVISED not in os.environ:
            tell(error, folder, world)
    leave(1)


def tell(error: Exception, folder: Path, world: World) -> None:
    """Say what went wrong where nobody watches over all ranks, and put it into the run's result.

    Any rank does, since the first may have been ended by its framework without a word.
    """
    if isinstance(error, UserError | RunFailed):
        print(f"error: rank {world.rank} of {world.size} failed: {error}", file=sys.stderr)
    else:
        print_exception(error)
    time.sleep(GRACE)
    amend(folder, first_failure(folder, world.size))


def leave(code: int) -> NoReturn:
    """End this process now: the libraries' own farewells wait for the other ranks."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
