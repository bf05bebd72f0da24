"""`python -m pipeline.compare PATH…`: a table, statistics and one page over any runs and sweeps."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.compare import Files, compare
from pipeline.compare.curves import Target
from pipeline.compare.watch import watch
from pipeline.errors import UserError

DESCRIPTION = """Compare runs: finished, failed or still running, of either backend.

Prints a table and what it comes to, and writes report.html (curves, speed, memory, statistics; one file,
no network), comparison.md and comparison.csv: into PATH, or of several into outputs/comparison."""


def main(arguments: Sequence[str]) -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(
        "python -m pipeline.compare",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", nargs="+", type=Path, help="a run, a sweep, or a folder of them")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="write there instead")
    parser.add_argument("--figures", action="store_true", help="draw PNG and SVG, too")
    parser.add_argument(
        "--watch",
        type=float,
        nargs="?",
        const=5.0,
        metavar="SECONDS",
        help="follow runs until all have ended, looking every SECONDS (5)",
    )
    parser.add_argument(
        "--target",
        metavar="KEY=VALUE",
        help="tell the time to this value, like val/accuracy=0.9 (the best that all have reached)",
    )
    parser.add_argument(
        "--price", type=float, metavar="NUMBER", help="of an hour on one device: tells the costs"
    )
    options = parser.parse_args(arguments)
    try:
        target = target_of(options.target)
        files = Files(options.to or usual_folder(options.path), options.figures)
        if options.watch is not None:
            watch(options.path, files, options.watch, target, options.price)
        else:
            compare(options.path, files, target, options.price)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def usual_folder(paths: Sequence[Path]) -> Path:
    """Where a comparison is written unless somebody says where to."""
    return paths[0] if len(paths) == 1 else Path("outputs") / "comparison"


def target_of(words: str | None) -> Target | None:
    """A target as it is typed.

    Raises:
        UserError: it is none.
    """
    if words is None:
        return None
    key, _, value = words.rpartition("=")
    try:
        if not key:
            raise ValueError
        return Target(key, float(value))
    except ValueError:
        allowed = "KEY=VALUE, a logged key and a number, like val/accuracy=0.9"
        raise UserError("--target", words, allowed) from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
