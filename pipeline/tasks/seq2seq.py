"""Sequence to sequence: a target, token by token, from a source and the tokens before."""

from collections.abc import Mapping

import numpy as np

from pipeline.tasks.language import perplexity
from pipeline.tasks.task import Shapes, Task

# Token after the end of a source or target, the first of which a model learns to write; also what a decoder
# sees before the first token.
PADDING = 0


class Seq2Seq(Task):
    """Cross-entropy of the logits `[batch, length, vocabulary]`, in nats, with `target` `[batch, length]`.

    Of the padding of a target only the first token counts, which ends it. The model takes the source, and the
    target one place later, with a token of padding in front.
    """

    name = "seq2seq"
    targets = ("target",)
    needs = ("source [length]", "target [length]")
    has_classes = True
    adds = ("target",)  # one place later
    sums = ("loss", "tokens", "correct", "exact")
    has_predictions = True
    monitor = "loss"
    maximized = frozenset({"accuracy", "exact_match"})
    counts_by_content = True

    def outputs(self, sizes: Mapping[str, int], shapes: Shapes) -> int:
        """Return the size of the vocabulary, which source and target share."""
        return max(sizes["source"], sizes["target"])

    def count_terms(self, batch: Mapping[str, np.ndarray]) -> int:
        """Return the number of tokens up to the end of each target."""
        target = batch["target"]
        return len(target) + int((target[:, :-1] != PADDING).sum())

    def metrics(self, sums: Mapping[str, float], shapes: Shapes) -> dict[str, float]:
        """Return the mean loss of a token, its exponential, and the share of right tokens and sequences.

        Each token is predicted from the right ones before it. A sequence is right in all tokens if, and only
        if, a model that writes by itself, always the likeliest token, writes the same.
        """
        tokens = max(1.0, sums["tokens"])
        loss = sums["loss"] / tokens
        return {
            "loss": loss,
            "perplexity": perplexity(loss),
            "accuracy": sums["correct"] / tokens,
            "exact_match": sums["exact"] / self.terms(shapes),
        }

    def outputs_shape(self, shapes: Shapes) -> tuple[int | str, ...]:
        """Return the shape of logits."""
        return (*shapes["target"], "classes")
