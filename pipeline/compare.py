"""A table of runs: what differs between them, how they ended, how well and how fast they did."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.announce import number
from pipeline.errors import UserError
from pipeline.runs import IDENTITY, RESULT, flat, read_json

Result = dict[str, Any]

# How a run came to its end, which is nothing to tell it by.
OF_THE_COMMAND = ("resume", "train.stop_after", "sweep.retry_failed", "sweep.dry_run")

WIDE = 120  # columns of a terminal that takes the whole table


def collect(paths: Sequence[Path]) -> list[Result]:
    """The result of every run at or below `paths`, each with its folder, in the order of the jobs.

    Raises:
        UserError: there is none.
    """
    results = []
    for path in paths:
        # A job that was killed early may have one of the two files only.
        runs = {file.parent for name in (IDENTITY, RESULT) for file in path.glob(f"**/{name}")}
        for run in sorted(runs, key=job_number):
            result = read_json(run / RESULT) or {"status": "running"}
            results.append({"name": run.name, **result, "folder": str(run)})
    if not results:
        raise UserError(
            "PATH", " ".join(map(str, paths)), "a run or a sweep", "Runs are below outputs/."
        )
    return results


def job_number(run: Path) -> tuple[int, str]:
    """Sort key: a job's number in its sweep, then its name."""
    first = run.name.partition("_")[0]
    return (int(first) if first.isdigit() else 0, run.name)


def differences(results: Sequence[Result]) -> list[str]:
    """What tells each run from the others: the config values that are not the same in all."""
    configs = [flat(result.get("config") or {}) for result in results]
    keys = dict.fromkeys(key for config in configs for key in config)
    differing = [
        key
        for key in keys
        if len({str(config.get(key)) for config in configs if config}) > 1
        and key not in OF_THE_COMMAND
        and not renamed(key, configs)
    ]
    return [
        " ".join(
            f"{key.removesuffix('.name')}={value_of(config[key])}"
            for key in differing
            if key in config
        )
        or result["name"]
        for config, result in zip(configs, results, strict=True)
    ]


def value_of(value: object) -> str:
    """A value as it tells a run from others; of what a search drew, six digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def renamed(key: str, configs: Sequence[dict[str, Any]]) -> bool:
    """Whether a key differs only because its group does: `model=mlp` says it all."""
    group = f"{key.partition('.')[0]}.name"
    return key != group and len({config.get(group) for config in configs if config}) > 1


def table(results: Sequence[Result], width: int) -> Table:
    """The runs as rows.

    Args:
        results: from `collect`.
        width: of the terminal in characters; a narrow one shows less.
    """
    tests = list(dict.fromkeys(key for result in results for key in result.get("test") or {}))
    columns = {"status": status} | {key: partial(tested, key) for key in tests}
    columns["seconds"] = lambda result: figure((result.get("seconds") or {}).get("total"), 1)
    columns["samples/s"] = lambda result: figure(result.get("throughput"))
    if width >= WIDE:
        columns["best"] = best
        columns["steps"] = lambda result: figure(result.get("steps"))
        columns["MB"] = lambda result: figure(result.get("peak_memory_mb"))
    output = Table(
        title="comparison", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    output.add_column("run", overflow="fold", min_width=16)
    for heading in columns:
        output.add_column(heading, justify="right", no_wrap=True)
    for name, result in zip(differences(results), results, strict=True):
        output.add_row(escape(name), *(cell(result) for cell in columns.values()))
    return output


def figure(value: float | None, digits: int = 0) -> str:
    """A quantity with so many digits after the point, thousands set off."""
    return "–" if value is None else f"{value:,.{digits}f}"


def tested(key: str, result: Result) -> str:
    """A test metric of a run."""
    return number((result.get("test") or {}).get(key))


def best(result: Result) -> str:
    """What was best in a run, by which metric."""
    found = result.get("best")
    return f"{found['metric']} {number(found['value'])}" if found else "–"


def status(result: Result) -> str:
    """A run's status, coloured."""
    colour = {"completed": "green", "failed": "red"}.get(result["status"], "yellow")
    return f"[{colour}]{result['status']}[/]"


def compare(paths: Sequence[Path]) -> list[Result]:
    """Print the table of all runs at or below `paths`, their folders and their errors."""
    results = collect(paths)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE  # a file has no edge to wrap at
    console.print(table(results, console.width))
    for name, result in zip(differences(results), results, strict=True):
        console.print(f"{escape(name)}  →  {escape(result['folder'])}")
        if result.get("error"):
            console.print(f"  [red]{escape(str(result['error']))}[/]")
    return results


def main() -> int:
    """`python -m pipeline.compare PATH…`"""
    parser = argparse.ArgumentParser(prog="python -m pipeline.compare", description=__doc__)
    parser.add_argument("path", nargs="+", type=Path, help="a run, a sweep, or a folder of them")
    try:
        compare(parser.parse_args().path)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
