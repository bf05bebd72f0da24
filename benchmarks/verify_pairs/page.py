"""The section of `benchmarks/verify.md` on the pairs of transformers, from files of `measure --verdicts`.

python -m benchmarks.verify_pairs.page named.jsonl renamed.jsonl
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.sections import TITLE, write_section
from benchmarks.verify_pairs.cases import CASES, Case

PAGE = Path(__file__).parents[1] / "verify.md"
HEADING = "## Hugging Face pairs"
INTRODUCTION = """Every architecture of which transformers 4.53.3 has a torch and a Flax class, in a tiny
configuration: both halves as they are, without hints. *Renamed*: the parameters of both halves by numbers
instead of names. A verdict is right if it is the expected one and names the layer where the source of the
two halves differs; a pair is aligned if each parameter on which an output depends has its counterpart.
"""

Row = Mapping[str, object]


def is_right(case: Case, row: Row) -> bool:
    """Tell if a row has the expected verdict, and its place on either side, if one is known.

    Without names, an array has none that could be expected.
    """
    if row.get("verdict") != case.expected:
        return False
    if not row.get("is_named", True) and row["part"] in ("buffers", "gradient", "update"):
        return True
    return case.where in f"{row['left']} {row['right']}"


def totals(rows: Sequence[Row]) -> tuple[int, int, int]:
    """Return how many rows are right, how many are aligned, and how many there are."""
    known = {case.key: case for case in CASES}
    right = sum(is_right(known[str(row["case"])], row) for row in rows)
    return right, sum(bool(row.get("is_aligned")) for row in rows), len(rows)


def table(rows: Sequence[Row]) -> str:
    """Return a Markdown table: totals, true differences with their causes, and wrong verdicts."""
    known = {case.key: case for case in CASES}
    right, aligned, count = totals(rows)
    same = [row for row in rows if row.get("verdict") == "same"]
    side = "torch" if all(row.get("is_named", True) for row in rows) else "Flax"
    lines = [
        "| | right | aligned | pairs |",
        "|---|---|---|---|",
        f"| all | {right} | {aligned} | {count} |",
        "",
        f"Called the same: {len(same)}. The others:",
        "",
        f"| pair | verdict | place ({side}) | by | what differs in the source | |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        case = known[str(row["case"])]
        if not is_right(case, row) or case.expected != "same":
            verdict = row.get("verdict", "error")
            # A renamed torch model has no names of layers; the scopes of Flax stay.
            place = row.get("left" if row.get("is_named", True) else "right") or ""
            far = row.get("difference", 0.0)
            size = f"{far:.0e}" if isinstance(far, float) and place else ""
            mark = "right" if is_right(case, row) else f"**wrong**: {row.get('error', '')}"
            part = f"{verdict} ({row['part']})" if place else verdict
            lines.append(f"| {case.key} | {part} | {place} | {size} | {case.cause} | {mark} |")
    return "\n".join(lines)


def read(file: Path) -> list[Row]:
    """Return the rows of a file, the last one of each case, in the order of the cases."""
    rows = {row["case"]: row for row in map(json.loads, file.read_text().splitlines())}
    return [rows[case.key] for case in CASES if case.key in rows]


def main() -> None:
    """Write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("named", type=Path)
    parser.add_argument("renamed", type=Path, nargs="?")
    parser.add_argument("--note", default="", help="a sentence on how the rows were made")
    parser.add_argument("--page", type=Path, default=PAGE)
    args = parser.parse_args()
    body = [
        INTRODUCTION,
        *([args.note, ""] if args.note else []),
        "### With their names",
        "",
        table(read(args.named)),
        "",
    ]
    if args.renamed:
        body += ["### Renamed", "", table(read(args.renamed)), ""]
    write_section(args.page, TITLE, HEADING, "\n".join(body))


if __name__ == "__main__":
    main()
