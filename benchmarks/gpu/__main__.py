"""Checks and measurements of a machine with one or more GPUs; writes benchmarks/gpu.md.

    python -m benchmarks.gpu [--only checks,parity,speed] [--minutes 9.5]      or: make gpu

Both backends train, resume, cross and agree on the GPU (tests/end_to_end/test_gpu.py), also in each precision
(`pipeline.parity`); all are compared in bf16 beside the card's peak (`pipeline.bench`) and beside loops by
hand (`benchmarks/overhead.py`). Each check has its own process and its own limit of time; what needs more
GPUs than there are is skipped, by name, and what does not fit into `--minutes` is left out, by name.
"""

import argparse
import re
import signal
import sys
from pathlib import Path

from benchmarks.gpu.checks import SECTIONS, checks, cores
from benchmarks.gpu.page import PAGE, card_name, write_machine, write_outcomes
from benchmarks.gpu.schedule import run_all
from pipeline.devices.hardware import gpu_count

ABSENT = (
    "This machine has no GPU that CUDA shows (no /dev/nvidia0, or CUDA_VISIBLE_DEVICES hides it). "
    "make gpu is for one that has; what JAX would run there is tested without one by make aot."
)
TURNS = {"gpu": 8.0, "cpu": 1.0}  # seconds at one batch size of a benchmark


def main() -> int:
    """Run the checks that are asked for; return 1 if one has failed."""
    parser = argparse.ArgumentParser("make gpu", description=__doc__.splitlines()[0])  # pyrefly: ignore[missing-attribute]
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, with commas between")
    parser.add_argument(
        "--minutes", type=float, default=9.5, help="the most that all take together"
    )
    parser.add_argument("--page", type=Path, default=PAGE, help="the file that is written")
    parser.add_argument("--named", default="", help="only names that this regular expression finds")
    # A rehearsal of the checks themselves at the smallest sizes, on two devices of a CPU.
    parser.add_argument("--on", choices=TURNS, default="gpu", help=argparse.SUPPRESS)
    options = parser.parse_args()
    gpus = gpu_count() if options.on == "gpu" else 2
    if not gpus:
        print(ABSENT, file=sys.stderr)
        return 1
    card = card_name() if options.on == "gpu" else None
    asked = [
        check
        for check in checks(options.on, TURNS[options.on])
        if check.section in options.only.split(",") and re.search(options.named, check.name)
    ]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no check is left behind
    write_machine(options.page, gpus, options.on)
    outcomes = []
    for outcome in run_all(asked, gpus, options.minutes, cores()):
        outcomes = sorted([*outcomes, outcome], key=lambda one: asked.index(one.check))
        print(f"{outcome.state:8}  {outcome.check.name}: {outcome.said}", flush=True)
        try:
            write_outcomes(options.page, outcomes, card)
        except Exception as error:  # the checks go on
            print(f"the page: {type(error).__name__}: {error}", file=sys.stderr)
    states = [outcome.state for outcome in outcomes]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    print(f"{counts or 'nothing asked for'}: {options.page}")
    if {"left out", "stopped"} & {*states}:
        print(f"--minutes={options.minutes:g} were too few for all: make gpu ARGS=--minutes=60")
    return int("failed" in states or not states)


if __name__ == "__main__":
    sys.exit(main())
