"""Masked language: the tokens that were hidden in a sequence (Devlin et al. 2018)."""

from collections.abc import Mapping

import numpy as np

from pipeline.config.tasks import MaskedLanguageConfig
from pipeline.tasks.language import perplexity
from pipeline.tasks.task import Shapes, Task


class MaskedLanguage(Task):
    """Cross-entropy of the logits `[batch, length, vocabulary]`, in nats, at the chosen tokens.

    The mask token is the last of the vocabulary, behind those of the data set.
    """

    name = "masked_language"
    targets = ()
    needs = ("tokens [length]",)
    takes = ("tokens",)
    sums = ("loss", "chosen", "correct")
    noise = ("choice", "change", "other")
    monitor = "loss"
    has_classes = True
    maximized = frozenset({"accuracy"})
    counts_by_content = True

    def __init__(self, config: MaskedLanguageConfig | None = None) -> None:
        super().__init__(config)
        config = config or MaskedLanguageConfig()
        self.chosen, self.masked, self.changed = (
            config.chosen, config.masked, config.masked + config.replaced
        )  # fmt: skip

    def outputs(self, sizes: Mapping[str, int], shapes: Shapes) -> int:
        """Return the size of the vocabulary with the mask token."""
        return sizes["tokens"] + 1

    def draw(self, name: str, random: np.random.Generator, shapes: Shapes) -> np.ndarray:
        """Draw two percentages for each token, and the 31 bits that another token is made of."""
        return random.integers(2**31 if name == "other" else 100, size=shapes["tokens"])

    def count_terms(self, batch: Mapping[str, np.ndarray]) -> int:
        """Return the number of chosen tokens, at least 1."""
        return max(1, int((batch["choice"] < self.chosen).sum()))

    def metrics(self, sums: Mapping[str, float], shapes: Shapes) -> dict[str, float]:
        """Return the mean loss of a chosen token, its exponential, and the share of right ones."""
        chosen = max(1.0, sums["chosen"])
        loss = sums["loss"] / chosen
        return {"loss": loss, "perplexity": perplexity(loss), "accuracy": sums["correct"] / chosen}

    def outputs_shape(self, shapes: Shapes) -> tuple[int | str, ...]:
        """Return the shape of logits."""
        return (*shapes["tokens"], "classes")
