"""Ctrl-C and SIGTERM become a flag; a second Ctrl-C ends the process."""

import signal
import subprocess
import sys

import pytest

from pipeline.interruption import Interruption


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_noted_with_its_exit_code_and_nothing_else_happens(number, code):
    with Interruption() as interruption:
        assert interruption.exit_code is None
        signal.raise_signal(number)
        assert interruption.exit_code == code


def test_the_former_handlers_come_back_also_after_an_error():
    former = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with Interruption():
            assert signal.getsignal(signal.SIGINT) != former[0]
            raise LookupError
    except LookupError:
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == former


def test_signals_that_a_library_took_are_taken_back():
    with Interruption() as interruption:
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.raise_signal(signal.SIGTERM)
        assert interruption.exit_code is None
        interruption.install()
        signal.raise_signal(signal.SIGTERM)
        assert interruption.exit_code == 143


@pytest.mark.parametrize(
    ("signals", "status"),
    [
        (("SIGINT", "SIGINT"), -signal.SIGINT),
        (("SIGTERM", "SIGINT"), -signal.SIGINT),
        (("SIGINT", "SIGTERM"), 143),
        (("SIGTERM", "SIGTERM"), 143),
    ],
)
def test_only_a_second_ctrl_c_ends_the_process_at_once(signals, status):
    code = (
        "import signal, sys\nfrom pipeline.interruption import Interruption\n"
        "with Interruption() as interruption:\n"
        f"    for name in {signals!r}: signal.raise_signal(getattr(signal, name))\n"
        "    sys.exit(interruption.exit_code)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == status
