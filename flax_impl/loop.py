"""The training loop over a Flax TrainState, and what happens around a step."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from flax_impl.checkpoints import Checkpoints
from flax_impl.data import EvalBatches, TrainBatches
from flax_impl.device import Device
from flax_impl.layers import Layout
from flax_impl.observing import Watch, start_of, trace
from flax_impl.profiling import Profiler
from flax_impl.sharding import share
from flax_impl.state import parameters_of
from flax_impl.step import TrainState, make_eval_step, make_train_step
from pipeline.checkpoints import FOLDER
from pipeline.datasets import Split, Task
from pipeline.errors import Interrupted
from pipeline.experiment import Experiment
from pipeline.metrics import SUMS
from pipeline.portable import digest


def train(experiment: Experiment, device: Device, state: TrainState, layout: Layout) -> None:
    """Run the compiled step to the end of the timetable.

    Args:
        experiment: what to train.
        device: where.
        state: at step 0, or as a checkpoint has it.
        layout: of the model.

    Raises:
        Interrupted: somebody asked to stop, and the state is saved.
        Diverged: the loss is no number.
    """
    plan, recorder, timetable = experiment.plan, experiment.recorder, experiment.recorder.timetable
    if recorder.stopped_early:
        return  # the run that was to go on had come to its end
    start = int(state.step)
    batches = TrainBatches(plan, device, experiment.config.train.accumulate)
    if start == 0:
        weights = parameters_of(state, layout)
        recorder.describe(
            parameters=sum(weight.size for weight in weights.values()),
            init_digest=digest(weights),
            data_digest=batches.digest(),
        )
    observer = recorder.observer
    watch = Watch() if observer.watching else None
    train_step = Compiled(make_train_step(experiment.config, plan, device, watch), experiment)
    evaluate_split = Evaluation(experiment, device, plan.data.val)
    if watch:
        observer.stepped(start_of(state, layout))
    recorder.begin(start, device)
    traced = experiment.config.train.profile if device.world.first else None
    profiler = Profiler(experiment.folder, traced)
    stop = experiment.config.train.stop_after
    with Checkpoints(experiment.folder / FOLDER, recorder, layout) as checkpoints:
        for first, count in timetable.calls(start, device.steps_per_call, stop):
            step = first + count
            rates = np.array([recorder.learning_rate(done) for done in range(first, step)])
            state, values, seen = train_step(
                count, state, *batches(first, count), share(rates.astype(device.dtype), device)
            )
            recorder.stepped(step, values)
            if watch:
                observer.stepped(trace(watch, seen, state, layout, values, rates[-1]))
            profiler.stepped(count, values)
            if timetable.evaluates(step):
                recorder.pause()
                recorder.evaluated(step, evaluate_split(state)[0])
                recorder.resume("eval")
                checkpoints.save(state)
            if step == timetable.total or recorder.stopped_early:
                break
            if (exit_code := recorder.interrupted(step)) is not None:
                if not timetable.evaluates(step):
                    checkpoints.save(state)
                raise Interrupted(step, exit_code)


def evaluate(
    experiment: Experiment, device: Device, state: TrainState
) -> tuple[Mapping[str, float], np.ndarray | None]:
    """Sums over the test set of the state's weights, and what they say of each of its samples."""
    data = experiment.plan.data
    return Evaluation(experiment, device, data.test, data.task is Task.classification)(state)


class Compiled:
    """A training step, compiled ahead for each number of steps in a call, with its time noted.

    Only here: torch compiles nothing.

    Args:
        function: jitted.
        experiment: whose recorder notes the time.
    """

    def __init__(self, function: Callable, experiment: Experiment) -> None:
        self.function, self.recorder = function, experiment.recorder
        self.programs: dict[int, Callable] = {}

    def __call__(self, count: int, *args: Any) -> tuple[TrainState, jax.Array]:
        if count not in self.programs:
            self.recorder.pause()
            self.programs[count] = self.function.lower(*args).compile()
            self.recorder.resume("compile")
        return self.programs[count](*args)


class Evaluation:
    """The evaluation of a split, compiled at its first call.

    Only here: it is kept between evaluations, as Lightning's Trainer keeps its loaders.

    Args:
        experiment: what is evaluated.
        device: where.
        split: on which samples.
        each: whether to tell what a classifier says of each sample, too.
    """

    def __init__(
        self, experiment: Experiment, device: Device, split: Split, each: bool = False
    ) -> None:
        plan, config = experiment.plan, experiment.config
        self.names = SUMS[plan.data.task]
        self.batches = EvalBatches(split, plan, device, config.train.eval_batch)
        self.step = make_eval_step(config, plan, device, each)
        self.read, self.each = device.read, each

    def __call__(self, state: TrainState) -> tuple[Mapping[str, float], np.ndarray | None]:
        """Sums over all samples, read off the device once; what is said of each, or None."""
        done = [self.step(state, *batch) for batch in self.batches]
        totals = self.read([values for values, _ in done]).sum(axis=0).tolist()
        said = self.batches.in_order(self.read([rows for _, rows in done])) if self.each else None
        return dict(zip(self.names, totals, strict=True)), said
