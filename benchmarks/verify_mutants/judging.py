"""Verdicts of `pipeline.verify` on pairs, in short."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.verify_mutants.mistakes import Mutant
from benchmarks.verify_mutants.pairs import (
    make_pair,
    mutant_sides,
    prepare,
    rewritten_sides,
)
from benchmarks.verify_mutants.rewrites import Rewritten
from pipeline.verify.judge import Request, judge
from pipeline.verify.verdict import Answer

One = Mutant | Rewritten


def judge_pair(one: One) -> dict[str, str]:
    """Judge a pair; the places of an abstention are the parameters without a counterpart."""
    sides = mutant_sides(one) if isinstance(one, Mutant) else rewritten_sides(one)
    pair = make_pair(one.model, *sides)
    verdict = judge(pair.left, pair.right, Request(pair.inputs))
    first, cause = verdict.first, verdict.cause
    left, right = (", ".join(x.name for x in verdict.unmatched[side]) for side in ("left", "right"))
    if first is not None:
        left, right = first.left, first.right
    return {
        "verdict": verdict.verdict.value,
        "part": first.part if first else "",
        "left": left if first or verdict.verdict is Answer.abstain else "",
        "right": right if first or verdict.verdict is Answer.abstain else "",
        "cause": cause.name if cause else "",
        "remedy": cause.remedy if cause else "",
        "confirmed": str(bool(cause and cause.confirmed)),
        "sentence": verdict.sentence,
    }


def tell(one: One) -> dict[str, str]:
    """Judge a pair; an error is a verdict, too."""
    started = time.perf_counter()
    try:
        told = judge_pair(one)
    except Exception as error:  # any: the table goes on
        told = dict.fromkeys(("part", "left", "right", "cause", "remedy"), "")
        told |= {"verdict": "error", "sentence": f"{type(error).__name__}: {error}"[:500]}
    return {"name": one.name, **told, "seconds": f"{time.perf_counter() - started:.1f}"}


def work(tasks: Sequence[One], file: Path) -> None:
    """Judge pairs, one after the other, and append each verdict to the file."""
    prepare()
    for one in tasks:
        told = tell(one)
        with file.open("a") as lines:
            lines.write(json.dumps(told) + "\n")
        print(f"{told['name']}: {told['sentence']} ({told['seconds']} s)", flush=True)
