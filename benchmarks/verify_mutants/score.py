"""Score of verdicts: what a referee said of each pair, against what is known of it."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.verify_mutants.bases import BASES
from benchmarks.verify_mutants.causes import is_right
from benchmarks.verify_mutants.mistakes import Mutant
from benchmarks.verify_mutants.names import is_expected, layers, to_torch

Told = Mapping[str, str]  # a verdict in short: `verdict`, `part`, `left`, `right`, `cause`, …


@dataclass(frozen=True)
class Score:
    """Correct parts of the verdict on a mutant."""

    verdict: bool
    place: bool
    part: bool
    cause: bool
    is_false_same: bool


def score(mutant: Mutant, told: Told) -> Score:
    """Hold a verdict against what is known of a mutant."""
    mistake = mutant.mistake
    if told["verdict"] == "same":
        # Weights of another order make the two the same: no mistake, where no names say otherwise.
        fine = mistake.relabels
        return Score(fine, fine, fine, fine, not fine)
    if told["verdict"] not in mistake.verdict.split("|"):
        return Score(False, False, False, False, False)
    is_abstained = told["verdict"] == "abstain"
    if is_abstained and "draws random numbers" in told["sentence"]:  # says what, and where
        return Score(True, True, True, True, False)
    part = is_abstained or told["part"] in mistake.part.split("|") or told["part"] == "weights"
    place = is_expected(reported(mutant, told), mutant.places)
    return Score(True, place, part, is_right(told["cause"], mistake.cause), False)


def reported(mutant: Mutant, told: Told) -> list[str]:
    """Return the layers that a verdict names, by torch's names."""
    kind = BASES[mutant.model].path.rpartition(".")[2]
    sides = ("left", "right") if mutant.torch_is_left else ("right", "left")
    ours, theirs = layers(told[sides[0]]), layers(told[sides[1]])
    return [*ours, *(to_torch(name, kind) for name in theirs)]
