"""What of a data set a model and a checkpoint depend on: kept in `run.json`, so that a run can be
converted where its data are not.
"""

from typing import Any

import numpy as np

from pipeline.datasets import Data, Split, Task

Outline = dict[str, Any]


def outline(data: Data) -> Outline:
    """Names, shapes, types and numbers of samples, as plain containers."""
    splits = {"train": data.train, "val": data.val, "test": data.test}
    return {
        "name": data.name,
        "task": data.task.name,
        "outputs": data.outputs,
        "features": len(data.mean),
        "inputs": [list(data.train.inputs.shape[1:]), data.train.inputs.dtype.name],
        "targets": [list(data.train.targets.shape[1:]), data.train.targets.dtype.name],
        "samples": {name: len(split) for name, split in splits.items()},
    }


def hollow(outline: Outline) -> Data:
    """A data set of that outline, all zeros, which take no memory."""

    def zeros(samples: int, shape: list[int], dtype: str) -> np.ndarray:
        return np.broadcast_to(np.zeros((), dtype), (samples, *shape))

    splits = {
        name: Split(zeros(samples, *outline["inputs"]), zeros(samples, *outline["targets"]))
        for name, samples in outline["samples"].items()
    }
    return Data(
        name=outline["name"],
        task=Task[outline["task"]],
        outputs=outline["outputs"],
        mean=np.zeros(outline["features"]),
        std=np.ones(outline["features"]),
        **splits,
    )
