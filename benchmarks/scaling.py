"""Cost as work grows: parameters, samples, jobs of a sweep, and runs in a report, into `scaling.md`.

Each size is measured in a process of its own. Since what else the machine does would be measured, too, no
time is: CPU seconds are the process's and its children's, user and system, and the peak memory is the
largest of one of them, both as the kernel counts them. Of each column `constant + factor · size^exponent` is
fitted.

    python benchmarks/scaling.py [--only runs,tokens] [--to benchmarks/scaling.md] [--quick]
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.scaling_probes import parameters, reports, samples, sweeps  # noqa: E402
from benchmarks.scaling_probes.case import Case  # noqa: E402
from benchmarks.scaling_probes.growth import growth  # noqa: E402
from benchmarks.sections import write_section  # noqa: E402

PAGE = ROOT / "benchmarks" / "scaling.md"
CASES = {case.name: case for part in (parameters, samples, sweeps, reports) for case in part.CASES}
TITLE = """Cost as work grows

Written by `python benchmarks/scaling.py`. Other work ran on the machine, so no time was measured: seconds and
milliseconds are CPU time, and `peak MB` is the largest resident memory of one process, pages of mapped files
included; `own MB` leaves them out. Each size ran in a process of its own. A column is fitted by
`constant + factor · size^exponent`; up to 1.2 counts as linear, and a step of more than
1.6 times that of the fit as a cliff. `CPU s` has Python's start and all imports, of
which the constant consists; set-ups and steps have not."""
SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of Linux
SHOWN = 3  # significant digits

Row = dict[str, float]


def measured(case: Case, size: int, folder: Path) -> Row:
    """Measure a case at one size, in another process, whose files are in a folder."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TANDEM_CACHE": str(folder / "programs"),
        "TANDEM_PROGRESS": "plain", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore",
    }  # fmt: skip
    if case.prepare:
        subprocess.run(
            case.worker("--prepare", size, folder), cwd=folder, env=environment, check=True
        )
    with (folder / "output").open("w+") as output:
        process = subprocess.Popen(
            case.arguments(size, folder), cwd=folder, env=environment, stdout=output, stderr=output
        )
        seconds, peak_mb, process.returncode = usage_of(process.pid)
        output.seek(0)
        lines = output.read().splitlines()
    if process.returncode:
        raise RuntimeError(f"{case.name} of {size}: exit code {process.returncode}: {lines[-5:]}")
    found = json.loads(lines[-1]) if case.measure else {}
    found |= case.after(folder) if case.after else {}
    return found | {"CPU s": seconds, "peak MB": peak_mb}


def usage_of(process: int) -> tuple[float, float, int]:
    """Wait for a process and what it leaves; return CPU seconds, peak memory of one, and its exit code."""
    seconds = peak = code = 0
    with suppress(ChildProcessError):  # once there are no more
        while True:
            ended, status, usage = os.wait4(-1, 0)
            code = os.waitstatus_to_exitcode(status) if ended == process else code
            seconds += usage.ru_utime + usage.ru_stime
            peak = max(peak, usage.ru_maxrss)
    return seconds, peak / 1e3, code


def table(case: Case, rows: dict[int, Row]) -> str:
    """Return the table of a case, with the growth of each column."""
    columns = list(next(iter(rows.values())))
    grown = [growth(list(rows), [row[column] for row in rows.values()]) for column in columns]
    lines = [[case.unit, *columns], ["--:"] * (1 + len(columns))]
    lines += [
        [f"{size:,}", *(number(row[column]) for column in columns)] for size, row in rows.items()
    ]
    lines.append(["exponent", *(f"{one.exponent:.2f}" for one in grown)])
    lines.append(["verdict", *(one.verdict for one in grown)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float) -> str:
    """Format a number with a few significant digits."""
    return f"{value:,.0f}" if value >= 10**SHOWN else f"{float(f'{value:.{SHOWN}g}'):g}"


def write(case: Case, sizes: Sequence[int], page: Path) -> None:
    """Measure a case and replace its section of the page; print the table, too."""
    rows = {}
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            rows[size] = measured(case, size, Path(folder))
        print(f"{case.name} of {size:,}: {rows[size]}", file=sys.stderr, flush=True)
    body = f"{case.about}\n\n{table(case, rows)}"
    print(f"\n## {case.heading}\n\n{body}", flush=True)
    write_section(page, TITLE, f"## {case.heading}", body)


def main() -> None:
    """Measure the cases that are asked for, or do the work of one in this process."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--to", type=Path, default=PAGE, metavar="FILE", help="the page")
    parser.add_argument("--quick", action="store_true", help="a few small sizes of some cases")
    work = ("NAME", "SIZE", "FOLDER")
    parser.add_argument("--prepare", nargs=3, metavar=work, help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs=3, metavar=work, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if given := options.prepare or options.measure:
        case, size, folder = CASES[given[0]], int(given[1]), Path(given[2])
        if options.measure and case.measure:
            print(f"\n{json.dumps(dict(case.measure(size, folder)))}")
        elif case.prepare:
            case.prepare(size, folder)
        return
    ctypes.CDLL(None).prctl(
        SUBREAPER, 1
    )  # the processes of jobs become this one's, and are counted
    for name in options.only.split(","):
        case = CASES[name]
        if sizes := case.quick if options.quick else case.sizes:
            write(case, sizes, options.to)


if __name__ == "__main__":
    main()
