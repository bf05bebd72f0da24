"""Language: the next token at every position of a sequence."""

import math
from collections.abc import Mapping

from pipeline.tasks.task import Shapes, Task


class Language(Task):
    """Cross-entropy of the logits `[batch, length, vocabulary]`, in nats, with `next` `[batch, length]`."""

    name = "language"
    targets = ("next",)
    needs = ("next [length]",)
    sums = ("loss", "correct")
    monitor = "loss"
    has_classes = True
    maximized = frozenset({"accuracy"})

    def outputs(self, sizes: Mapping[str, int], shapes: Shapes) -> int:
        """Return the size of the vocabulary."""
        return sizes["tokens"]

    def terms(self, shapes: Shapes) -> int:
        """Return the number of tokens."""
        return self.values(shapes)

    def metrics(self, sums: Mapping[str, float], shapes: Shapes) -> dict[str, float]:
        """Return the mean loss of a token, its exponential, and the share of tokens that are right."""
        terms = self.terms(shapes)
        loss = sums["loss"] / terms
        accuracy = sums["correct"] / terms
        return {"loss": loss, "perplexity": perplexity(loss), "accuracy": accuracy}

    def outputs_shape(self, shapes: Shapes) -> tuple[int | str, ...]:
        """Return the shape of logits."""
        return (*shapes["next"], "classes")


def perplexity(loss: float) -> float:
    """Exponential of a loss; infinity above the range of a float."""
    try:
        return math.exp(loss)
    except OverflowError:
        return math.inf
