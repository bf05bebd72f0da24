"""Run checks within a limit of time: side by side, then those that need the machine alone."""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass

from benchmarks.gpu.checks import ROOT, Check

LEAST = 10  # seconds: a check that has fewer left is left out
CORES = 2  # of a check that runs beside others


@dataclass(frozen=True)
class Outcome:
    """The result of a check: `passed`, `failed`, `skipped`, `left out` or `stopped`, and what it said.

    `output` is all that it printed; `found` the content of its JSON file.
    """

    check: Check
    state: str
    said: str
    seconds: float = 0.0
    output: str = ""
    found: dict | None = None


def run_all(asked: Sequence[Check], gpus: int, minutes: float, cores: int) -> Iterator[Outcome]:
    """Run checks, and yield each outcome as it comes; none fails the others, and none outlasts its time."""
    end = time.monotonic() + 60 * minutes
    running: set[int] = set()
    shared = [check for check in asked if not check.alone]
    try:
        with ThreadPoolExecutor(max(1, cores // CORES)) as pool:
            started = [pool.submit(run_check, check, gpus, end, running) for check in shared]
            try:
                for future in as_completed(started):
                    yield future.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
                _kill_groups(running)
        for check in asked:
            if check.alone:
                yield run_check(check, gpus, end, running)
    finally:  # also after Ctrl-C
        _kill_groups(running)


def run_check(check: Check, gpus: int, end: float, running: set[int]) -> Outcome:
    """Run a check, if there are GPUs enough and time until `end`; its process is in `running` meanwhile."""
    if gpus < check.gpus:
        return Outcome(check, "skipped", f"needs {check.gpus} GPUs, and there is {gpus}")
    start = time.monotonic()
    if (limit := min(check.seconds, end - start)) < min(LEAST, check.seconds):
        return Outcome(check, "left out", "the time of all checks is over")
    if check.result is not None:
        check.result.unlink(missing_ok=True)  # of an earlier run
    # A file, not a pipe, which a process that is left behind would keep open.
    with tempfile.TemporaryFile("w+", errors="replace") as written:
        process = subprocess.Popen(
            check.command, cwd=ROOT, env=os.environ | check.environment, stdin=subprocess.DEVNULL,
            stdout=written, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        running.add(process.pid)
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        _kill_groups([process.pid])  # also what it has left behind
        process.wait()
        running.discard(process.pid)
        written.seek(0)
        output = written.read()
    seconds = time.monotonic() - start
    if code is None and limit < check.seconds:
        said = f"the time of all checks was over after {limit:.0f} of its {check.seconds:.0f} s"
        return Outcome(check, "stopped", said, seconds, output)
    if code is None:
        return Outcome(check, "failed", f"not done after {limit:.0f} s", seconds, output)
    found = _content_of(check) or {}
    if code:  # a benchmark of which one backend failed has measured the others
        return Outcome(check, "failed", reason_of(output, code), seconds, output, found)
    said = found.get("sentence") or " ".join(found.get("sentences", ())) or sentence_of(output)
    return Outcome(check, "passed", str(said), seconds, output, found)


def _kill_groups(leaders: Iterable[int]) -> None:
    for leader in list(leaders):
        with suppress(ProcessLookupError):
            os.killpg(leader, signal.SIGKILL)


def _content_of(check: Check) -> dict | None:
    """Content of the JSON file of a check; None without one."""
    try:
        return json.loads(check.result.read_text()) if check.result else None
    except (OSError, json.JSONDecodeError):
        return None


def reason_of(output: str, code: int) -> str:
    """Line of a failed command that says why: pytest's first error, or the last that names one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    if by_pytest := [line.removeprefix("E").strip() for line in lines if line.startswith("E  ")]:
        return by_pytest[0]
    named = [line for line in lines if "rror" in line]
    return (named or lines or [f"exit code {code}"])[-1]


def sentence_of(output: str) -> str:
    """Line of a command that says what came of it: rows of loops by hand, or the last."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    rows = [line.strip("| ") for line in lines if line.startswith("| `")]
    return "; ".join(rows or lines[-1:])
