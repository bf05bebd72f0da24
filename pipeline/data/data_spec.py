"""Names, shapes and types of a data set, stored in `run.json` to convert a run without its data."""

from typing import TypedDict

import numpy as np

from pipeline.config.tasks import TaskConfig
from pipeline.data.dataset import Data, Moments, Split
from pipeline.tasks import make_task

ShapeAndType = tuple[tuple[int, ...], str]


class DataSpec(TypedDict):
    """Shapes, types and sizes of a data set, as JSON: all that models and checkpoints depend on."""

    name: str
    task: str
    sizes: dict[str, int]  # of fields of integers
    fields: dict[str, ShapeAndType]  # of one sample
    channels: dict[str, int]  # of each normalised field
    samples: dict[str, int]  # of each split


def data_spec(data: Data) -> DataSpec:
    """Describe a data set."""
    fields = data.train.fields.items()
    return DataSpec(
        name=data.name,
        task=data.task.name,
        sizes=dict(data.sizes),
        fields={name: (array.shape[1:], str(array.dtype)) for name, array in fields},
        channels={name: len(moments.mean) for name, moments in data.moments.items()},
        samples={"train": len(data.train), "val": len(data.val), "test": len(data.test)},
    )


def placeholder_data(spec: DataSpec, config: TaskConfig) -> Data:
    """Make a data set of zeros with the shapes and types of `spec`, which takes no memory."""

    def zeros(split: str) -> Split:
        return Split(
            {
                name: np.broadcast_to(np.zeros((), dtype), (spec["samples"][split], *shape))
                for name, (shape, dtype) in spec["fields"].items()
            }
        )

    train, val, test = zeros("train"), zeros("val"), zeros("test")
    moments = {name: Moments(np.zeros(n), np.ones(n)) for name, n in spec["channels"].items()}
    task = make_task(config, spec["task"])
    return Data(spec["name"], task, train, val, test, spec["sizes"], moments).for_task(task)
