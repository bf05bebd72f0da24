"""The loss of a task on both backends, for tests."""

import jax
import numpy as np

import flax_impl.device
import flax_impl.tasks
import lightning_impl.device
import lightning_impl.tasks
from pipeline.config.train import Precision
from pipeline.data.dataset import TARGETS, Data, Split
from pipeline.tasks import TASKS


def losses(task, smoothing=0.0, outputs=1, config=None, **fields):
    """Losses of torch and of JAX, in float64, for a data set whose training samples are `fields`."""
    made = TASKS[task](config)
    arrays = {name: np.asarray(array) for name, array in fields.items()}
    if not made.takes and not arrays.keys() - TARGETS - {*made.targets}:
        arrays["x"] = np.zeros((len(next(iter(arrays.values()))), 1))  # a field for the model
    split = Split(arrays)
    sizes = {"label": outputs, "mask": outputs, "source": outputs, "target": outputs}
    sizes["tokens"] = outputs - (task == "masked_language")
    data = Data("made", made, split, split, split, sizes, {}).for_task(made)
    mesh = jax.sharding.Mesh(jax.devices("cpu")[:1], (flax_impl.device.DATA,))
    return (
        lightning_impl.tasks.LOSSES[task](
            data, lightning_impl.device.Device("cpu", Precision.fp64, ""), smoothing
        ),
        flax_impl.tasks.LOSSES[task](
            data, flax_impl.device.Device("cpu", Precision.fp64, 1, "", mesh), smoothing
        ),
    )
