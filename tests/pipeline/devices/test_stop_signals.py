"""Ctrl-C and SIGTERM set a flag; a second Ctrl-C ends the process."""

import signal
import subprocess
import sys

import pytest

from pipeline.devices.stop_signals import StopSignal


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_only_sets_its_exit_code(number, code):
    with StopSignal() as interruption:
        assert interruption.exit_code is None
        signal.raise_signal(number)
        assert interruption.exit_code == code


def test_previous_handlers_are_restored_even_after_an_error():
    former = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        with StopSignal():
            assert signal.getsignal(signal.SIGINT) != former[0]
            raise LookupError
    except LookupError:
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == former


def test_handlers_that_a_library_replaced_can_be_installed_again():
    with StopSignal() as interruption:
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
        "import signal, sys\nfrom pipeline.devices.stop_signals import StopSignal\n"
        "with StopSignal() as interruption:\n"
        f"    for name in {signals!r}: signal.raise_signal(getattr(signal, name))\n"
        "    sys.exit(interruption.exit_code)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == status
