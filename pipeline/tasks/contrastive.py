"""Contrastive learning: which two views are of the same image, as in SimCLR (Chen et al. 2020)."""

from collections.abc import Mapping

from pipeline.config.tasks import ContrastiveConfig
from pipeline.tasks.task import Shapes, Task

VIEW = "view"  # field with the second view of the images


class Contrastive(Task):
    """Cross-entropy of finding the other view of an image among both views of all others (NT-Xent).

    The others are those of the whole batch in training, and in an evaluation those of a group of
    `task.group` consecutive samples of the set, however large its batches are.
    """

    name = "contrastive"
    targets = ()
    takes = ("image",)
    sums = ("loss", "hits")
    one_row = True
    has_predictions = False
    monitor = "loss"
    maximized = frozenset({"accuracy"})
    whole_batch = True

    def __init__(self, config: ContrastiveConfig | None = None) -> None:
        super().__init__(config)
        self.config = config or ContrastiveConfig()
        self.group = self.config.group
        self.needs = (f"{self.takes[0]} [height, width, channels]",)
        self.views = {VIEW: self.takes[0]}

    def outputs(self, sizes: Mapping[str, int], shapes: Shapes) -> int:
        """Return the numbers in an embedding."""
        return self.config.width

    def terms(self, shapes: Shapes) -> int:
        """Return the number of images."""
        return shapes[self.takes[0]][0]

    def metrics(self, sums: Mapping[str, float], shapes: Shapes) -> dict[str, float]:
        """Return the loss, and the share of views whose nearest one is that of the same image."""
        images = self.terms(shapes)
        return {"loss": sums["loss"] / images, "accuracy": sums["hits"] / (2 * images)}

    def outputs_shape(self, shapes: Shapes) -> tuple[int | str, ...]:
        """Return the shape of the embeddings of both views."""
        return ("batch", 2, "width")
