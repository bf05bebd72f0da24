"""Check of the pairs themselves: bases agree, both sides make the same mistake, and it changes something.

A line for each mutant: how far its two sides are from each other, and by how much each part differs from
the model without the mistake.

    python -m benchmarks.verify_mutants.check [MODEL …] [--kind TEXT]
"""

import argparse
from dataclasses import dataclass

import jax

from benchmarks.verify_mutants.bases import BASES
from benchmarks.verify_mutants.mistakes import Mutant, mutants
from benchmarks.verify_mutants.pairs import (
    Pair,
    Side,
    make_pair,
    prepare,
    rewritten_sides,
)
from benchmarks.verify_mutants.rewrites import Rewritten, rewritten
from pipeline.verify.alignment.align import Aligner, Alignment
from pipeline.verify.checks.checker import Checker

BAR = 1e-10


@dataclass(frozen=True)
class Compared:
    """Largest differences of two models by part, and the random numbers that each draws."""

    parts: dict[str, float]
    draws: tuple[list[tuple[str, float, int]], ...]

    @property
    def largest(self) -> float:
        """The largest difference of what is computed."""
        return max(value for part, value in self.parts.items() if part != "weights")

    @property
    def differing(self) -> dict[str, float]:
        """The parts that differ."""
        found = {part: value for part, value in self.parts.items() if value > BAR}
        return found or ({"draws": 1.0} if self.draws[0] != self.draws[1] else {})


def compare(pair: Pair, alignment: Alignment | None = None) -> tuple[Compared, Alignment]:
    """Compare both sides in evaluation and training; they are aligned if need be."""
    inputs = pair.inputs.draw(0)
    if alignment is None or not _fits(alignment, pair):
        alignment = Aligner(pair.left, pair.right, inputs, 0).align()
    checker = Checker(pair.left, pair.right, alignment)
    checker.load(alignment.values)
    traces = pair.left.trace(inputs[0], True), pair.right.trace(inputs[1], True)
    checker.match_outputs(traces[0].outputs, traces[1].outputs)
    parts: dict[str, float] = {}
    for training in (False, True):
        for finding in checker.compare_pass(inputs, training, 0):
            parts[finding.part] = max(parts.get(finding.part, 0.0), finding.value)
    if not (alignment.mapping.is_used.all() and (alignment.mapping.source >= 0).all()):
        parts["weights"] = 1.0  # parameters without a counterpart
    draws = tuple(sorted((d.kind, d.number, d.size) for d in trace.draws) for trace in traces)
    return Compared(parts, draws), alignment


def _fits(alignment: Alignment, pair: Pair) -> bool:
    owners = alignment.mapping.left, alignment.mapping.right
    sides = pair.left.description, pair.right.description
    return all(side.arrays == owner.arrays for side, owner in zip(sides, owners, strict=True))


def check_mutant(mutant: Mutant, base: Alignment) -> tuple[Compared, Compared]:
    """Compare a mutant with itself on the other side, and with the model without the mistake."""
    wrong = (mutant.mistake.changes, mutant.at)
    twins, _ = compare(make_pair(mutant.model, Side("torch", *wrong), Side("linen", *wrong)), base)
    changed, _ = compare(make_pair(mutant.model, Side("torch"), Side("linen", *wrong)), base)
    return twins, changed


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", default=list(BASES))
    parser.add_argument("--kind", default="", help="part of a mistake's name")
    parser.add_argument("--rewrites", dest="mutants", action="store_false")
    asked = parser.parse_args()
    prepare()
    for model in asked.models:
        if not asked.mutants:
            for one in rewritten():
                if one.model == model and asked.kind in one.rewrite.name:
                    print(f"{one.name}: {_rewritten_line(one)}", flush=True)
            continue
        compared, alignment = compare(make_pair(model, Side("torch"), Side("linen")))
        print(f"{model}: {compared.largest:.0e}", flush=True)
        for mutant in mutants():
            if mutant.model == model and asked.kind in mutant.mistake.name:
                print(f"  {mutant.name}: {_line(mutant, alignment)}", flush=True)
        jax.clear_caches()


def _line(mutant: Mutant, base: Alignment) -> str:
    try:
        twins, changed = check_mutant(mutant, base)
    except Exception as error:  # any: the table goes on
        return f"FAILED {type(error).__name__}: {str(error)[:200]}"
    found = ", ".join(f"{part} {value:.0e}" for part, value in changed.differing.items())
    unequal = "" if twins.largest <= BAR else f" TWINS DIFFER {twins.parts}"
    draws = "" if twins.draws[0] == twins.draws[1] else f" DRAWS DIFFER {twins.draws}"
    return f"{twins.largest:.0e}{unequal}{draws} | {found or 'NO MUTANT'}"


def _rewritten_line(one: Rewritten) -> str:
    try:
        compared, alignment = compare(make_pair(one.model, *rewritten_sides(one)))
    except Exception as error:  # any: the table goes on
        return f"FAILED {type(error).__name__}: {str(error)[:200]}"
    draws = "" if compared.draws[0] == compared.draws[1] else f" DRAWS {compared.draws}"
    parts = "" if compared.largest <= BAR else f" DIFFER {compared.parts}"
    left = "" if "weights" not in compared.parts else " SOME UNMATCHED"
    return f"{compared.largest:.0e} in {alignment.trials} runs{parts}{left}{draws}"


if __name__ == "__main__":
    main()
