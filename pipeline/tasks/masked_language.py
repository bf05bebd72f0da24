"""Masked language: the tokens that were hidden in a sequence (Devlin et al. 2018)."""

from collections.abc import Mapping

import numpy as np

from pipeline.tasks.language import perplexity
from pipeline.tasks.task import Shapes, Task

CHOSEN = 15  # percent of the tokens, which are to be predicted
MASKED, REPLACED = (
    80,
    10,
)  # percent of these that become the mask token, or any token; the rest stay


class MaskedLanguage(Task):
    """Cross-entropy of the logits `[batch, length, vocabulary]`, in nats, at the chosen tokens.

    The mask token is the last of the vocabulary.
    """

    name = "masked_language"
    targets = ()
    sums = ("loss", "chosen", "correct")
    noise = ("choice", "change", "other")
    monitor = "loss"
    maximized = frozenset({"accuracy"})
    counts_by_content = True

    def draw(self, name: str, random: np.random.Generator, shapes: Shapes) -> np.ndarray:
        """Draw two percentages for each token, and the 31 bits that another token is made of."""
        return random.integers(2**31 if name == "other" else 100, size=shapes["tokens"])

    def count_terms(self, batch: Mapping[str, np.ndarray]) -> int:
        """Return the number of chosen tokens, at least 1."""
        return max(1, int((batch["choice"] < CHOSEN).sum()))

    def metrics(self, sums: Mapping[str, float], shapes: Shapes) -> dict[str, float]:
        """Return the mean loss of a chosen token, its exponential, and the share of right ones."""
        chosen = max(1.0, sums["chosen"])
        loss = sums["loss"] / chosen
        return {"loss": loss, "perplexity": perplexity(loss), "accuracy": sums["correct"] / chosen}

    def outputs_shape(self, shapes: Shapes) -> tuple[int | str, ...]:
        """Return the shape of logits."""
        return (*shapes["tokens"], "classes")
