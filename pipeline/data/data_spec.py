"""Names, shapes and types of a data set, stored in `run.json` to convert a run without its data."""

from typing import TypedDict

import numpy as np

from pipeline.data.dataset import Data, Split, Task

ShapeAndType = tuple[list[int], str]


class DataSpec(TypedDict):
    """Shapes, types and sizes of a data set, as JSON: all that models and checkpoints depend on."""

    name: str
    task: str
    outputs: int
    features: int  # length of `Data.mean`
    inputs: ShapeAndType  # of one sample
    targets: ShapeAndType  # of one target
    samples: dict[str, int]  # of each split


def data_spec(data: Data) -> DataSpec:
    """Describe a data set."""

    def describe(array: np.ndarray) -> ShapeAndType:
        return list(array.shape[1:]), array.dtype.name

    return DataSpec(
        name=data.name,
        task=data.task.name,
        outputs=data.outputs,
        features=len(data.mean),
        inputs=describe(data.train.inputs),
        targets=describe(data.train.targets),
        samples={"train": len(data.train), "val": len(data.val), "test": len(data.test)},
    )


def placeholder_data(spec: DataSpec) -> Data:
    """Make a data set of zeros with the shapes and types of `spec`, which takes no memory."""

    def zeros(split: str) -> Split:
        arrays = (
            np.broadcast_to(np.zeros((), dtype), (spec["samples"][split], *shape))
            for shape, dtype in (spec["inputs"], spec["targets"])
        )
        return Split(*arrays)

    train, val, test = zeros("train"), zeros("val"), zeros("test")
    mean, std = np.zeros(spec["features"]), np.ones(spec["features"])
    task, outputs = Task[spec["task"]], spec["outputs"]
    return Data(spec["name"], task, train, val, test, outputs, mean, std)
