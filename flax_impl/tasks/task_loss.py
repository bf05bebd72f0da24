"""The loss of a task, and what else is summed over a batch."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Generic, TypeVar, cast

import jax
import jax.numpy as jnp

from flax_impl.device import Device, PyTree
from pipeline.config.models import ModelConfig, OwnConfig
from pipeline.data.dataset import Data
from pipeline.storage.predictions import are_kept
from pipeline.tasks import Task
from pipeline.training.model_calls import calling
from pipeline.training.model_outputs import check_outputs, dataclasses_in, pick_output

Batch = Mapping[str, jax.Array]  # the fields by name
Smoothing = float | jax.Array  # a scalar if several runs train at once that differ in it
Inputs = tuple[jax.ShapeDtypeStruct, ...]  # shapes and dtypes of a model's arguments
AnyTask = TypeVar("AnyTask", bound=Task)


class _Called(Exception):
    """A model was called by `TaskLoss.model_inputs`, which needs no outputs."""


class TaskLoss(ABC, Generic[AnyTask]):
    """The loss of a task; losses are computed in the dtype of the parameters."""

    model: ModelConfig = OwnConfig()  # whose outputs it takes

    def __init__(self, data: Data, device: Device, smoothing: float = 0.0) -> None:
        self.data, self.inputs = data, data.inputs
        self.task = cast("AnyTask", data.task)
        self.dtype, self.classes = device.dtype, data.outputs
        self.smoothing: Smoothing = smoothing

    def outputs(
        self, apply_fn: Callable, variables: PyTree, batch: Batch, **options: PyTree
    ) -> PyTree:
        """Return a model's outputs for a batch; of two views `[batch, 2, …]`."""
        seconds = {name: second for second, name in self.task.views.items() if second in batch}
        if not seconds:
            inputs = (batch[name] for name in self.inputs)
            return self.call(apply_fn, variables, *inputs, **options)
        pairs = [jnp.stack([batch[n], batch[seconds.get(n, n)]], axis=1) for n in self.inputs]
        flat = (pair.reshape(-1, *pair.shape[2:]) for pair in pairs)
        both = self.call(apply_fn, variables, *flat, **options)
        found, *changed = both if "mutable" in options else (both,)
        outputs = jax.tree.map(_in_pairs, found)
        check_outputs(outputs, {}, self.task, model=self.model.name)
        return (outputs, *changed) if changed else outputs

    def call(
        self, apply_fn: Callable, variables: PyTree, *inputs: jax.Array, **options: PyTree
    ) -> PyTree:
        """Call a model; of its outputs return the entry that the loss takes."""
        with calling(self.model, "model.jax", inputs):
            found = apply_fn(variables, *inputs, **options)
        outputs, *changed = found if "mutable" in options else (found,)
        outputs = pick_output(outputs, self.model, self.task)
        for one in dataclasses_in(outputs):
            if jax.tree_util.all_leaves([one]):
                jax.tree_util.register_dataclass(type(one))
        return (outputs, *changed) if changed else outputs

    def model_inputs(self, batch: Mapping[str, jax.ShapeDtypeStruct]) -> Inputs:
        """Return the shapes and dtypes of the arguments of a model's first call for such a batch.

        Only here: a torch module is made without them.
        """
        found: list[Inputs] = []

        def apply_fn(variables: PyTree, *inputs: jax.Array, **options: PyTree) -> PyTree:
            found.append(tuple(jax.ShapeDtypeStruct(x.shape, x.dtype) for x in inputs))
            raise _Called

        with suppress(_Called):
            jax.eval_shape(partial(self.outputs, apply_fn, {}), batch)
        return found[0]

    def sums(
        self,
        outputs: jax.Array,
        batch: Batch,
        training: bool = False,
        counted: jax.Array | None = None,
    ) -> list[jax.Array]:
        """Return the sums over a batch, in the order of the task's `sums`.

        Smoothing is for training, and the groups of `Task.group` are for evaluation. `counted` is 1 for a
        sample, 0 for padding `[batch]`. Only here: a compiled evaluation needs batches of one size; torch
        takes a smaller last one.
        """
        shapes = {name: f.shape for name, f in batch.items()}
        check_outputs(outputs, shapes, self.task, self.classes, self.model.name)
        if counted is None:
            counted = jnp.ones(len(outputs), self.dtype)
        outputs = outputs.astype(self.dtype)
        if training:
            return self.sum_terms(outputs, batch, self.smoothing, counted)
        return self.sums_of_groups(outputs, batch, counted)

    def sums_of_groups(self, outputs: PyTree, batch: Batch, counted: jax.Array) -> list[jax.Array]:
        """Return the sums over a batch of an evaluation; see `Task.group`."""
        size = self.task.group
        if size == 1:
            return self.sum_terms(outputs, batch, 0.0, counted)
        groups = jax.tree.map(
            lambda x: x.reshape(-1, size, *x.shape[1:]), (outputs, dict(batch), counted)
        )
        sums = jax.vmap(lambda out, fields, own: self.sum_terms(out, fields, 0.0, own))(*groups)
        return [parts.sum(axis=0) for parts in sums]

    @abstractmethod
    def sum_terms(
        self, outputs: jax.Array, batch: Batch, smoothing: Smoothing, counted: jax.Array
    ) -> list[jax.Array]:
        """Return the sums.

        `smoothing` is the fraction of each target that is spread evenly over all classes (Szegedy et al.
        2016).
        """

    def predictions(self, outputs: PyTree, batch: Batch) -> Mapping[str, jax.Array]:
        """Return what is kept of each test sample `[batch, …]`, by name; nothing if it is too much."""
        found = self.per_sample(outputs, batch)
        shapes = [tuple(array.shape[1:]) for array in found.values()]
        return found if are_kept(shapes, len(self.data.test)) else {}

    def per_sample(self, outputs: PyTree, batch: Batch) -> Mapping[str, jax.Array]:
        """Return what says most of each sample `[batch, …]`, by name."""
        return {}


def _in_pairs(leaf: jax.Array) -> jax.Array:
    """Return rows of a batch by two, the views of one sample."""
    return leaf.reshape(-1, 2, *leaf.shape[1:]) if jnp.ndim(leaf) else leaf
