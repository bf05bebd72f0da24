"""Tasks: what is learned from the fields of a batch, and the metrics of it.

To add one, write a file with a subclass of `Task` here, its row in `TASKS`, its twin in `tasks/` of each
backend, which has the loss, a dataclass in `pipeline/config/tasks.py`, and a YAML file in `conf/task/`.
"""

from collections.abc import Callable

from pipeline.config.tasks import AUTO, TaskConfig, specific
from pipeline.tasks.classification import Classification
from pipeline.tasks.contrastive import Contrastive
from pipeline.tasks.denoising import Denoising
from pipeline.tasks.language import Language
from pipeline.tasks.masked_language import MaskedLanguage
from pipeline.tasks.multilabel import Multilabel
from pipeline.tasks.own import OwnTask
from pipeline.tasks.regression import Regression
from pipeline.tasks.segmentation import Segmentation
from pipeline.tasks.seq2seq import Seq2Seq
from pipeline.tasks.task import Shapes, Task

__all__ = [
    "TARGETS",
    "TASKS",
    "Classification",
    "Contrastive",
    "Denoising",
    "Language",
    "MaskedLanguage",
    "Multilabel",
    "OwnTask",
    "Regression",
    "Segmentation",
    "Seq2Seq",
    "Shapes",
    "Task",
    "direction",
    "make_task",
]

TASKS: dict[str, Callable[..., Task]] = {
    "classification": Classification,
    "regression": Regression,
    "language": Language,
    "multilabel": Multilabel,
    "segmentation": Segmentation,
    "masked_language": MaskedLanguage,
    "denoising": Denoising,
    "contrastive": Contrastive,
    "seq2seq": Seq2Seq,
    "own": OwnTask,
}

# Fields that a model does not take unless `task.inputs` names them.
TARGETS = frozenset({"label", "target", "next", "labels", "mask"})
MAXIMIZED = frozenset({"accuracy", "r2", "macro_f1", "micro_f1", "mean_iou", "exact_match"})


def make_task(config: TaskConfig, default: str) -> Task:
    """Make the task of a config; `default` takes the place of auto."""
    name = default if config.name == AUTO else config.name
    return TASKS[name](specific(config, name))


def direction(key: str) -> str:
    """Return `max` if a higher value of a built-in metric such as `val/accuracy` is better, else `min`."""
    return "max" if key.rpartition("/")[2] in MAXIMIZED else "min"
