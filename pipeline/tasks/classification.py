"""Classification: one class for each sample."""

from collections.abc import Mapping

from pipeline.tasks.task import Shapes, Task


class Classification(Task):
    """Cross-entropy of the logits `[batch, classes]`, in nats, with the class `label` `[batch]`."""

    name = "classification"
    targets = ("label",)
    needs = ("label []",)
    sums = ("loss", "correct")
    one_row = True
    has_predictions = True
    monitor = "accuracy"
    has_classes = True
    maximized = frozenset({"accuracy"})

    def outputs(self, sizes: Mapping[str, int], shapes: Shapes) -> int:
        """Return the number of classes."""
        return sizes["label"]

    def metrics(self, sums: Mapping[str, float], shapes: Shapes) -> dict[str, float]:
        """Return the mean loss, and the share of samples whose likeliest class is right."""
        terms = self.terms(shapes)
        return {"loss": sums["loss"] / terms, "accuracy": sums["correct"] / terms}

    def outputs_shape(self, shapes: Shapes) -> tuple[int | str, ...]:
        """Return the shape of logits."""
        return (*shapes["label"], "classes")
