"""Evaluation of a split by a state, compiled once for all states of a run, or of runs that are alike."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

import jax
import numpy as np

from flax_impl.checkpoints import read_checkpoint
from flax_impl.data.batches import EvalBatches
from flax_impl.device import Device
from flax_impl.layers import Layout
from flax_impl.state import evaluated_weights
from flax_impl.training.eval_step import make_eval_step
from flax_impl.training.step import StepContext
from flax_impl.training.train_state import TrainState
from pipeline.config.train import Precision
from pipeline.data.dataset import Split
from pipeline.run.backends import Tested
from pipeline.run.experiment import Experiment
from pipeline.storage.checkpoints import Checkpoint, first_readable


def make_evaluation(
    experiment: Experiment, device: Device, split: Split, each: bool = False
) -> Callable[[TrainState], tuple[Mapping[str, float], Mapping[str, np.ndarray]]]:
    """Make a function that evaluates a split; it is compiled at its first call.

    It returns the sums over all samples, and with `each` the predictions for each sample, if the task has
    any.
    """
    plan, config = experiment.plan, experiment.config
    batches = EvalBatches(split, plan, device, config.train.eval_batch)
    lifts = experiment.recorder.observer.compares and config.train.precision is Precision.fp64
    step = make_eval_step(StepContext(config, plan, device), each, lifts)

    def evaluate_split(state: TrainState) -> tuple[Mapping[str, float], Mapping[str, np.ndarray]]:
        done = [step(state, *batch) for batch in batches]
        totals = device.read([values for values, _ in done]).sum(axis=0).tolist()
        predictions = jax.device_get([found for _, found in done])
        whole = jax.tree.map(lambda *parts: np.concatenate(parts).astype(np.float64), *predictions)
        in_order = {name: batches.in_order(array) for name, array in whole.items()}
        return dict(zip(plan.data.sums, totals, strict=True)), in_order

    return evaluate_split


class _Test(Protocol):
    def __call__(
        self, checkpoint: Checkpoint, known: tuple[int, TrainState] | None = None
    ) -> Tested: ...


def make_test(
    experiment: Experiment, device: Device, template: TrainState, layout: Layout
) -> _Test:
    """Make a function that tests checkpoints of runs that are alike; `template` gives their shapes.

    It does not read a checkpoint whose step and state it is given.
    """
    data = experiment.plan.data
    evaluate = make_evaluation(experiment, device, data.test, each=True)
    read = partial(read_checkpoint, template=template, layout=layout)

    def test(checkpoint: Checkpoint, known: tuple[int, TrainState] | None = None) -> Tested:
        if known and known[0] == checkpoint.step:
            state = known[1]
        else:
            _, content = first_readable([checkpoint], read, lambda message: None, "checkpoint")
            state = content["state"]
        weights = evaluated_weights(state, layout) if data.task.samples else {}
        return Tested(*evaluate(state), weights)

    return test
