"""Tasks: what is learned from the fields of a batch, and the metrics of it.

To add one, write a file with a subclass of `Task` here, its row in `TASKS`, and its twin in `tasks/` of each
backend, which has the loss.
"""

from pipeline.tasks.classification import Classification
from pipeline.tasks.denoising import Denoising
from pipeline.tasks.language import Language
from pipeline.tasks.masked_language import MaskedLanguage
from pipeline.tasks.multilabel import Multilabel
from pipeline.tasks.regression import Regression
from pipeline.tasks.segmentation import Segmentation
from pipeline.tasks.seq2seq import Seq2Seq
from pipeline.tasks.task import Shapes, Task

__all__ = [
    "TASKS",
    "Classification",
    "Denoising",
    "Language",
    "MaskedLanguage",
    "Multilabel",
    "Regression",
    "Segmentation",
    "Seq2Seq",
    "Shapes",
    "Task",
    "direction",
]

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Classification(),
        Regression(),
        Language(),
        Multilabel(),
        Segmentation(),
        MaskedLanguage(),
        Denoising(),
        Seq2Seq(),
    )
}


def direction(key: str) -> str:
    """Return `max` if a higher value of a metric such as `val/accuracy` is better, else `min`."""
    metric = key.rpartition("/")[2]
    return "max" if any(metric in task.maximized for task in TASKS.values()) else "min"
