"""`python -m pipeline.bench [OVERRIDES…]`: the faster framework for a model on this machine."""

import argparse
import os
import signal
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import FrameType

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console

from pipeline.bench.plan import make_plan
from pipeline.bench.report.fairness import unfairness
from pipeline.bench.report.page import write
from pipeline.bench.report.sentence import sentences
from pipeline.bench.report.table import growth_table, layers_table, speed_table, used_table
from pipeline.bench.timing.measure import measure
from pipeline.commands import command
from pipeline.compare import WIDE
from pipeline.config.checks.hydra_errors import explain
from pipeline.config.experiment import require_name
from pipeline.console import print_and_log, say_line
from pipeline.devices.stop_signals import EXIT_CODES
from pipeline.errors import RunFailed, UserError

DESCRIPTION = """Measure which backend is faster for a model on this machine.

OVERRIDES are those of run.py. Each backend runs its own training step and inference, in a process of its
own; they take turns, in alternating order, until their ratios are known within 2 % or the time is over.
Prints tables and the answer in sentences, and writes bench.html and bench.json into outputs/NAME."""

KEYS = """keys of a benchmark, beside those of run.py:
  backends=torch,jax      options of the config group backend (default: all)
  precisions=fp32,bf16    of fp32, tf32, bf16 and fp64 (default: those that the machine is good at)
  batch_sizes=32,64       samples of a step (default: powers of two, up to what memory and time allow)
  seconds=20              the most that all turns at one batch size take in training, half in inference

The learning rate is 0 while it is measured, so that the numbers stay as at the start of a run."""


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        command("bench"),
        description=DESCRIPTION,
        epilog=KEYS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDES")
    parser.add_argument("--config-dir", "-cd", metavar="FOLDER", help="options of your own")
    parser.add_argument(
        "--layers",
        action="store_true",
        help="also time each layer, forward and backward, at the batch size nearest to the experiment's own",
    )
    asked = parser.parse_intermixed_args(arguments)
    code = 0
    with interruptible() as received, suppress(KeyboardInterrupt):
        code = run(asked)
    return EXIT_CODES[received[0]] if received else code


def run(asked: argparse.Namespace) -> int:
    """Measure, show and write what is asked for; return the exit code.

    Raises:
        KeyboardInterrupt: a signal came before anything was measured, or after all was.
    """
    try:
        plan = make_plan(asked.overrides, asked.config_dir, asked.layers)
        name = plan.name or f"bench-{datetime.now():%Y-%m-%d_%H-%M-%S-%f}"
        require_name(name)
        bench = measure(plan, lambda text: print_and_log(text, soft_wrap=True))
    except (UserError, RunFailed, HydraException, OmegaConfBaseException) as error:
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            raise
        print(explain(error), file=sys.stderr)
        return 1
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    for make_table in (speed_table, growth_table, layers_table, used_table):
        if (made := make_table(bench)).row_count:
            console.print(made)
    for sentence in sentences(bench):
        print_and_log(f"[bold]{sentence}[/]", soft_wrap=True)
    for sentence in unfairness(bench):
        print_and_log(f"[yellow]{sentence}[/]", soft_wrap=True)
    for path in write(bench, Path("outputs") / name):
        say_line(f"→  {path}")
    if unmeasured := bench.unmeasured():
        print(explain(RunFailed(told(unmeasured, bench.backends))), file=sys.stderr)
    return int(bool(unmeasured))


def told(unmeasured: Mapping[str, str], backends: Sequence[str]) -> str:
    """Return a message on backends of which nothing was measured, with their reasons and the way out."""
    reasons = [
        f"{name} was not measured: {reason.rstrip('.')}." for name, reason in unmeasured.items()
    ]
    others = ",".join(name for name in backends if name not in unmeasured)
    return " ".join([*reasons, f"Mend it, or leave it out: backends={others}."])


@contextmanager
def interruptible() -> Generator[list[signal.Signals]]:
    """Have SIGTERM raise KeyboardInterrupt as Ctrl-C does; give the signals that have come.

    A second Ctrl-C ends the process at once. A second SIGTERM does nothing: some programs send it to the
    process and to its group. What the first raises while Python ends an object is lost: it is raised again.
    """
    received: list[signal.Signals] = []
    signals = (signal.SIGINT, signal.SIGTERM)

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number))
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    def raise_again(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def note_lost(lost: "sys.UnraisableHookArgs") -> None:
        if lost.exc_type is not KeyboardInterrupt:
            return hook(lost)
        signal.signal(signal.SIGALRM, raise_again)
        signal.setitimer(signal.ITIMER_REAL, 0.01)

    previous = {number: signal.signal(number, interrupt) for number in signals}
    hook, sys.unraisablehook = sys.unraisablehook, note_lost
    try:
        yield received
    finally:
        sys.unraisablehook = hook
        if signal.getsignal(signal.SIGALRM) is raise_again:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in previous.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
