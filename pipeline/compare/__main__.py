"""`python -m pipeline.compare PATH…`: a table, statistics and one page over any runs and sweeps."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from math import inf
from pathlib import Path

from pipeline.commands import command
from pipeline.compare import Files, compare
from pipeline.compare.curves import Target
from pipeline.compare.watch import watch
from pipeline.config.fields import require
from pipeline.errors import BadArgument, UserError

DESCRIPTION = """Compare runs: completed, failed or still running, of any backend.

Prints tables and findings, and writes report.html (curves, speed, memory, statistics; one file,
no network), comparison.md and comparison.csv: into PATH, or into outputs/comparison for several paths."""


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        command("compare"),
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", nargs="+", type=Path, help="a run, a sweep, or a folder of them")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="write to this folder instead")
    parser.add_argument("--figures", action="store_true", help="also draw the plots as PNG and SVG")
    parser.add_argument(
        "--watch",
        type=float,
        nargs="?",
        const=5.0,
        metavar="SECONDS",
        help="refresh every SECONDS (default 5) until all runs have ended",
    )
    parser.add_argument(
        "--target",
        metavar="KEY=VALUE",
        help="report the time to this value, like val/accuracy=0.9 (default: the best that all have reached)",
    )
    parser.add_argument(
        "--price",
        type=float,
        metavar="NUMBER",
        help="of an hour on one device: adds the cost of each run",
    )
    options = parser.parse_args(arguments)
    try:
        target, price = parse_target(options.target), options.price
        require(price is None or 0 <= price < inf, "--price", price, "a number, 0 or more")
        default = options.path[0] if len(options.path) == 1 else Path("outputs/comparison")
        files = Files(options.to or default, options.figures)
        if options.watch is not None:
            watch(options.path, files, options.watch, target, price)
        else:
            for path in options.path:
                if not path.exists():
                    raise BadArgument(str(path), "a run or a sweep", "Runs are below outputs/.")
            compare(options.path, files, target, price)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def parse_target(text: str | None) -> Target | None:
    """Parse KEY=VALUE."""
    if text is None:
        return None
    key, _, value = text.rpartition("=")
    with suppress(ValueError):
        if key:
            return Target(key, float(value))
    raise UserError("--target", text, "KEY=VALUE, a logged key and a number, like val/accuracy=0.9")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
