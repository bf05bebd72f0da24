"""A trained model outside a run, as users of Flax know it."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from flax_impl.adapters.adapted import Adapted
from flax_impl.adapters.keywords import training_keywords
from flax_impl.data.batches import EvalBatches
from flax_impl.data.gather import gather_batch, normalised
from flax_impl.data.samples import Batch, BatchRows, Samples
from flax_impl.device import DATA, Device, PyTree
from flax_impl.gpu import select_platform
from flax_impl.tasks import build_loss
from pipeline.config.accelerator import Kind
from pipeline.config.experiment import Config
from pipeline.config.train import Precision
from pipeline.data.batch_plan import BatchPlan
from pipeline.data.dataset import Split


@dataclass(frozen=True)
class TrainedModel:
    """A `flax.linen.Module`, bound to trained variables, and its evaluation on raw samples."""

    module: nn.Module
    config: Config
    plan: BatchPlan
    device: Device

    @property
    def native(self) -> object:
        """The model as its author knows it."""
        model, variables = self.module.unbind()
        return model.native(variables) if isinstance(model, Adapted) else self.module

    def predict(self, split: Split) -> np.ndarray:
        """Return the outputs for samples as a data set holds them, prepared as in an evaluation.

        For a model that returns several arrays, they are in the same structure.
        """
        _, variables = self.module.unbind()
        with settings_of(self.config):
            batches = EvalBatches(split, self.plan, self.device, self.config.train.eval_batch)
            loss = build_loss(self.config, self.plan.data, self.device)

            @jax.jit
            def outputs_of(
                variables: PyTree, samples: Samples, rows: BatchRows, draws: Batch
            ) -> PyTree:
                batch = normalised(samples, gather_batch(samples, rows, draws))
                return loss.outputs(self._apply, variables, batch)

            outputs = [
                jax.device_get(outputs_of(variables, samples, rows, draws))
                for samples, rows, draws, _ in batches
            ]
        return jax.tree.map(lambda *parts: np.concatenate(parts)[: len(split)], *outputs)

    def call(self, *inputs: np.ndarray) -> np.ndarray:
        """Return the outputs for inputs as the model takes them, but images with channels last."""
        with settings_of(self.config):
            outputs = self._compiled(self.module.variables, *map(self._placed, inputs))
            return np.asarray(outputs.astype(self.device.dtype))

    def _placed(self, array: np.ndarray) -> jax.Array:
        is_float = np.issubdtype(array.dtype, np.floating)
        return jnp.asarray(array, self.device.dtype if is_float else np.int32)

    @cached_property
    def _apply(self) -> Callable:
        model, _ = self.module.unbind()
        return partial(model.apply, **training_keywords(type(model).__call__, False))

    @cached_property
    def _compiled(self) -> jax.stages.Wrapped:
        loss = build_loss(self.config, self.plan.data, self.device)
        return jax.jit(partial(loss.call, self._apply))


@contextmanager
def settings_of(config: Config) -> Generator[None]:
    """While active, have JAX compute in the types of a run."""
    is_double = config.train.precision is Precision.fp64
    with jax.enable_x64(is_double), jax.default_matmul_precision("highest"):
        yield


def own_device(config: Config) -> Device:
    """Return JAX's first device; the one setting that changes is that without a GPU it looks for none."""
    select_platform(Kind.auto)
    first = jax.devices()[:1]
    kind = "gpu" if first[0].platform == "gpu" else "cpu"
    mesh = Mesh(np.array(first), (DATA,))
    return Device(kind, config.train.precision, 1, f"jax on {kind}", mesh)
