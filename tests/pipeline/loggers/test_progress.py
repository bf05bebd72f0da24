"""Progress: a bar on a terminal, plain lines elsewhere, nothing if asked for; cheap in a fast loop."""

import os
import pty
import subprocess
import sys
import time

import pytest

from pipeline.errors import UserError
from pipeline.loggers.progress import Progress

RUN = """
import time
from pipeline.loggers.progress import Progress
with Progress(400, "jax cnn [digits]") as progress:
    progress.start(100)
    for step in range(101, 401):
        progress.update(step, {"train/loss": 1 / step} if step % 10 == 0 else {})
        if step == 150:
            progress.message("saved [bold]step 150")
        time.sleep(0.002)
    progress.update(400, {"val/accuracy": 0.95, "val/loss": 0.1})
"""


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test advances."""
    now = [1000.0]
    monkeypatch.setattr("pipeline.loggers.progress.time.monotonic", lambda: now[0])
    return now


@pytest.fixture
def plain(monkeypatch):
    monkeypatch.setenv("TANDEM_PROGRESS", "plain")


def in_terminal(code, **environment):
    """Output of `code` on a terminal of 120 columns."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"} | environment
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    output = b""
    while True:
        try:
            output += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
    assert process.wait(timeout=300) == 0, output.decode()
    return output.decode()


def test_a_line_is_printed_at_each_evaluation_and_every_ten_seconds(clock, plain, capsys):
    with Progress(400, "jax cnn") as progress:
        progress.start(100)
        for step in range(101, 125):
            progress.update(step, {"train/loss": 0.1234567, "perf/samples_per_second": 1234.4})
            clock[0] += 1
        progress.update(125, {"val/accuracy": 0.95, "val/loss": 0.5})
        progress.update(126, {})
    assert capsys.readouterr().out.splitlines() == [
        "jax cnn: step 100/400",
        "step 111/400  train/loss 0.1235  1234 samples/s",
        "step 121/400  train/loss 0.1235  1234 samples/s",
        "step 125/400  train/loss 0.1235  val/accuracy 0.95  val/loss 0.5  1234 samples/s",
        "step 126/400  train/loss 0.1235  val/accuracy 0.95  val/loss 0.5  1234 samples/s",
    ]


def test_the_last_step_is_shown_once_and_stop_may_be_called_twice(clock, plain, capsys):
    progress = Progress(2, "job")
    progress.start(0)
    progress.update(2, {"val/loss": 1.0})
    progress.stop()
    progress.stop()
    progress.message("and then")
    assert capsys.readouterr().out == "job: step 0/2\nstep 2/2  val/loss 1\nand then\n"


def test_progress_that_never_started_prints_only_messages(plain, capsys):
    with Progress(2, "job") as progress:
        progress.message("testing")
    assert capsys.readouterr().out == "testing\n"


def test_starting_again_does_not_repeat_the_first_line(plain, capsys):
    with Progress(2, "job") as progress:
        progress.start(0)
        progress.start(1)
        progress.update(1, {})
    assert capsys.readouterr().out == "job: step 0/2\n"


@pytest.mark.parametrize("style", ["plain", "bar", "none"])
def test_an_update_costs_at_most_ten_microseconds(monkeypatch, capsys, style):
    monkeypatch.setenv("TANDEM_PROGRESS", style)
    with Progress(100_000, "job") as progress:
        progress.start(0)
        start = time.process_time()
        for step in range(100_000):
            progress.update(step, {})
        seconds = time.process_time() - start
    assert seconds < 1.0  # 10 µs a step, on a slow machine


def test_style_none_prints_nothing(monkeypatch, capsys):
    monkeypatch.setenv("TANDEM_PROGRESS", "none")
    with Progress(2, "job") as progress:
        progress.start(0)
        progress.update(2, {"val/loss": 1.0})
        progress.message("saved")
    assert capsys.readouterr() == ("", "")


def test_an_unknown_style_is_refused(monkeypatch):
    monkeypatch.setenv("TANDEM_PROGRESS", "fancy")
    with pytest.raises(UserError, match="TANDEM_PROGRESS=fancy: must be one of plain, bar, none"):
        Progress(1, "job")


def test_a_terminal_gets_a_bar_with_messages_above_it():
    output = in_terminal(RUN)
    assert "\x1b[2K" in output or "\x1b[1A" in output or "\r" in output  # drawn in place
    assert "━" in output
    assert "jax cnn [digits]" in output
    assert "saved [bold]step 150" in output
    assert "400/400" in output
    assert "/s " in output
    assert "val 0.95" in output
    assert output.count("jax cnn [digits]") < 40  # not drawn at each of the 300 steps


def test_a_pipe_gets_plain_lines():
    output = subprocess.run(
        [sys.executable, "-c", RUN], capture_output=True, text=True, check=True
    ).stdout
    assert output.splitlines() == [
        "jax cnn [digits]: step 100/400",
        "saved [bold]step 150",
        "step 400/400  train/loss 0.0025  val/accuracy 0.95  val/loss 0.1",
    ]


def test_the_environment_variable_overrides_the_terminal():
    assert "━" not in in_terminal(RUN, TANDEM_PROGRESS="plain")
