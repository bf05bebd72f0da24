"""Verdicts on mutants and on harmless rewrites, against what is known of them.

Each model's pairs are judged in a process of their own. Verdicts are appended to a file as they come:
called again, the command goes on where it stopped.

    python -m benchmarks.verify_mutants [--models gpt,vit] [--kind TEXT] [--jobs 1] [--file PATH]
    python -m benchmarks.verify_mutants --again     judges what was not judged rightly once more, too
    python -m benchmarks.verify_mutants --table     the tables of what the file holds
    python -m benchmarks.verify_mutants --write     writes them into benchmarks/verify.md
"""

import argparse
import json
import multiprocessing
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.sections import TITLE, write_section
from benchmarks.verify_mutants.bases import BASES
from benchmarks.verify_mutants.mistakes import Mutant, mutants
from benchmarks.verify_mutants.rewrites import Rewritten, rewritten
from benchmarks.verify_mutants.score import Told, score
from benchmarks.verify_mutants.table import mutants_section, rewrites_section

PAGE = Path(__file__).parents[1] / "verify.md"
FILE = Path("outputs/verify_mutants.jsonl")


def read(file: Path) -> dict[str, dict[str, str]]:
    """Return the verdicts in a file by the pair's name; of several, the last."""
    lines = file.read_text().splitlines() if file.exists() else []
    return {told["name"]: told for told in map(json.loads, lines)}


def is_right(one: Mutant | Rewritten, known: Mapping[str, Told]) -> bool:
    """Return True if a pair was judged, and rightly."""
    if one.name not in known:
        return False
    if isinstance(one, Rewritten):
        return known[one.name]["verdict"] == "same"
    found = score(one, known[one.name])
    return found.verdict and found.place and found.part and found.cause


def main() -> None:
    """Judge what is not judged yet, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", default=",".join(BASES))
    parser.add_argument("--kind", default="", help="part of the name of a mistake or rewrite")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--file", type=Path, default=FILE)
    parser.add_argument("--again", action="store_true", help="judge again what was wrong")
    parser.add_argument("--table", action="store_true", help="judge nothing")
    parser.add_argument("--write", action="store_true", help=f"write the tables into {PAGE.name}")
    asked = parser.parse_args()
    everything = [*mutants(), *rewritten()]
    if not (asked.table or asked.write):
        from benchmarks.verify_mutants.judging import work

        asked.file.parent.mkdir(parents=True, exist_ok=True)
        known = read(asked.file)
        if asked.again:
            known = {one.name: known[one.name] for one in everything if is_right(one, known)}
        wanted = [one for one in everything if one.name not in known and asked.kind in one.name]
        by_model = [[o for o in wanted if o.model == name] for name in asked.models.split(",")]
        # A fresh process for each model: JAX keeps what it has compiled for every shape.
        context = multiprocessing.get_context("spawn")
        with context.Pool(asked.jobs, maxtasksperchild=1) as pool:
            pool.starmap(work, [(tasks, asked.file) for tasks in by_model if tasks], chunksize=1)
    verdicts = read(asked.file)
    if not verdicts:
        sys.exit(f"{asked.file} holds no verdicts")
    wrong = mutants_section([one for one in everything if isinstance(one, Mutant)], verdicts)
    harmless = rewrites_section([one for one in everything if isinstance(one, Rewritten)], verdicts)
    if asked.write:
        write_section(PAGE, TITLE, "## Mutants", wrong)
        write_section(PAGE, TITLE, "## Harmless rewrites", harmless)
    else:
        print(wrong, harmless, sep="\n\n")


if __name__ == "__main__":
    main()
