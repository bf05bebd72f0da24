"""Mistakes: layers that do one another's work, though their names say what each is for."""

from benchmarks.verify_mutants.mistakes.mistake import Mistake

EXCHANGES = (
    Mistake(
        "gate exchanged for what it gates",
        {"gates": "exchanged"},
        {"llama": "layers.{at}.mlp*"},
        "exchanged",
    ),
)
