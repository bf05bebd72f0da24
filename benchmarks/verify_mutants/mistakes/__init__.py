"""Mistakes of ports, and the models that have them.

A mistake is made in all of a model, or in its last block alone where it is one of blocks.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.verify_mutants.mistakes.attention import ATTENTION_AND_TABLES
from benchmarks.verify_mutants.mistakes.exchanges import EXCHANGES
from benchmarks.verify_mutants.mistakes.functions import FUNCTIONS
from benchmarks.verify_mutants.mistakes.gradients import GRADIENTS
from benchmarks.verify_mutants.mistakes.images import IMAGES
from benchmarks.verify_mutants.mistakes.mistake import Mistake
from benchmarks.verify_mutants.mistakes.norms import NORMS
from benchmarks.verify_mutants.mistakes.randomness import RANDOMNESS

MISTAKES = (*FUNCTIONS, *NORMS, *RANDOMNESS, *ATTENTION_AND_TABLES, *IMAGES, *GRADIENTS, *EXCHANGES)


@dataclass(frozen=True)
class Mutant:
    """A base model with a mistake.

    `at` is the only block that has it, None: all of the model; `framework` the side that has it.
    """

    model: str
    mistake: Mistake
    at: int | None
    framework: str
    torch_is_left: bool = True

    @property
    def name(self) -> str:
        """Name in tables."""
        block = "" if self.at is None else " in the last block"
        return f"{self.model}: {self.mistake.name}{block} ({self.framework})"

    @property
    def places(self) -> str:
        """Patterns of the expected places."""
        whole, _, block = self.mistake.places[self.model].partition(" / ")
        pattern = block if block and self.at is not None else whole
        return pattern.format(at=self.at or 0, n=(self.at or 0) + 1, last=LAST)


LAST = 1  # block
# Mistakes that models of other kinds can make, too.
VIT = ("gelu by tanh", "epsilon", "residual missing", "scale missing", "softmax over the heads",
       "last for the first token", "dropout rate", "gradient of weights stopped")  # fmt: skip
OTHER_KINDS = (
    ("nnx", "mlp", ("leaky slope", "epsilon", "dropout missing", "size of the noise", "label smoothing",
                    "mean of the batch subtracted", "gradient of features stopped")),
    ("nnx", "vit", VIT),
    ("equinox", "vit", VIT),
    ("equinox", "lstm", ("direction of time", "initial carry", "cell for the hidden state", "dropout rate",
                         "gradient through time stopped")),
    ("functions", "gpt", ("gelu exact", "epsilon outside the root", "unbiased variance",
                          "causal mask off by one", "mask value", "positions from two", "dropout rate",
                          "losses by sequence", "gradient of residuals stopped")),
)  # fmt: skip
WITHOUT_BLOCKS = ("mlp", "lstm", "gru")


def mutants() -> Iterator[Mutant]:
    """Every mistake in each of its models, by turns on either side, and in all of it or the last block."""
    for number, mistake in enumerate(MISTAKES):
        for turn, model in enumerate(mistake.places):
            in_block = mistake.in_blocks and model not in WITHOUT_BLOCKS and turn % 2 == 1
            framework = ("linen", "torch")[(number + turn // 2) % 2]
            yield Mutant(
                model, mistake, LAST if in_block else None, framework, (number + turn) % 3 > 0
            )
    for framework, model, names in OTHER_KINDS:
        for mistake in MISTAKES:
            if mistake.name in names and model in mistake.places:
                yield Mutant(model, mistake, None, framework)
