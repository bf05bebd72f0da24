"""The training loop over a Flax TrainState, and the evaluation."""

from collections.abc import Callable
from contextlib import closing
from functools import partial

import jax
import numpy as np

from flax_impl.checkpoints import Checkpoints
from flax_impl.data.batches import TrainBatches
from flax_impl.device import Device, PyTree
from flax_impl.layers import Layout
from flax_impl.layout import module_names
from flax_impl.sharding import shard
from flax_impl.state import evaluated_weights, parameters_of
from flax_impl.training.evaluation import make_evaluation
from flax_impl.training.profiling import Profiler
from flax_impl.training.step import StepContext, make_train_step
from flax_impl.training.step_trace import Watch, Watched, observe_step
from flax_impl.training.train_state import TrainState
from pipeline.errors import Interrupted
from pipeline.run.backends import Tested
from pipeline.run.experiment import Experiment
from pipeline.run.recording.recorder import Recorder
from pipeline.storage.run_folder import CHECKPOINTS
from pipeline.verify.names.names_file import names_of

# The order of a step, the same as in `lightning_impl.training.loop`. It must not change: weights, recorder
# state and data position in a checkpoint belong to the same step.
#
# 1. batches        rows of the batch plan at this step; the position follows from the step alone
# 2. train_step     forward and backward passes, clipping, update, average of the weights (`step.py`)
# 3. recorder       keeps the values on the device; reads and logs them if a line is due
# 4. train_step     shows the step to the observer, if there is one
# 5. profiler       starts or stops a trace
# 6. evaluation     if due: sums over the validation set; the recorder logs them, records the best, and calls
#                   the user's callbacks
# 7. checkpoints    if evaluated: save, and keep the newest and the best
# 8. stop           at the last step, or when early stopping says so
# 9. interruption   after a signal: save, unless step 7 has, and leave the loop


def train(experiment: Experiment, device: Device, state: TrainState, layout: Layout) -> None:
    """Run the compiled step to the end of the run, from a state at step 0 or of a checkpoint."""
    plan, recorder, config = experiment.plan, experiment.recorder, experiment.config.train
    intervals = recorder.intervals
    if recorder.stopped_early:
        return  # early stopping had already ended this run
    start = int(state.step)
    batches = TrainBatches(plan, device, config.accumulate)
    if start == 0:
        recorder.describe(parameters_of(state, layout), batches.digest())
    train_step = _compile_step(experiment, device, layout)
    evaluate_split = make_evaluation(experiment, device, plan.data.val)
    train_step.show_start(state)
    recorder.begin(start, device)
    profiler = Profiler(experiment.folder, config.profile if device.world.is_main else None)
    saving = Checkpoints(experiment.folder / CHECKPOINTS, recorder, layout)
    limit = batches.steps_per_call
    if experiment.config.accelerator.steps_per_call is None:
        limit = intervals.call_length(limit)
    with closing(batches), saving as checkpoints:
        for first, count in intervals.calls(start, limit, config.stop_after):
            step = first + count
            rates = np.array([recorder.learning_rate(done) for done in range(first, step)])
            state, values = train_step(
                state, *batches(first, count), shard(rates.astype(device.dtype), device)
            )
            recorder.note_call(count)
            recorder.record_step(step, values)
            train_step.show(state, rates[-1])
            profiler.stepped(count, values)
            if intervals.evaluates(step):
                recorder.pause()
                weights = partial(evaluated_weights, state, layout)
                recorder.record_evaluation(step, evaluate_split(state)[0], weights)
                recorder.resume("eval")
                checkpoints.save(state)
            if step == intervals.total or recorder.stopped_early:
                break
            if (exit_code := recorder.exit_code_if_stopped(step)) is not None:
                if not intervals.evaluates(step):
                    checkpoints.save(state)
                raise Interrupted(step, exit_code)


def evaluate(experiment: Experiment, device: Device, state: TrainState, layout: Layout) -> Tested:
    """Test the weights of a state."""
    data = experiment.plan.data
    found = make_evaluation(experiment, device, data.test, each=True)(state)
    return Tested(*found, evaluated_weights(state, layout) if data.task.samples else {})


def _compile_step(
    experiment: Experiment, device: Device, layout: Layout
) -> "_CompiledStep | Watched":
    """Compile the training step; with an observer, return one that shows its steps."""
    context = StepContext(experiment.config, experiment.plan, device)
    recorder, observer = experiment.recorder, experiment.recorder.observer
    if not observer.watching:
        return _CompiledStep(make_train_step(context), recorder)
    found = names_of(experiment.config.model, experiment.folder)
    names = module_names(layout) if found else {}
    watch = Watch(names, context.config, observer.compares)
    step = _CompiledStep(make_train_step(context, partial(observe_step, watch)), recorder)
    return Watched(step, watch, observer, layout, context.plan)


class _CompiledStep:
    """A jitted training step, compiled once for each number of steps in a call."""

    def __init__(self, function: jax.stages.Wrapped, recorder: Recorder) -> None:
        self.function, self.recorder = function, recorder
        self.programs: dict[int, Callable] = {}

    def __call__(self, state: TrainState, *batches: PyTree) -> tuple:
        """Take one step for each learning rate in the last argument."""
        count = len(batches[-1])
        if count not in self.programs:
            self.recorder.pause()
            self.programs[count] = self.function.lower(state, *batches).compile()
            self.recorder.resume("compile")
        return self.programs[count](state, *batches)

    def show_start(self, state: TrainState) -> None:
        """Do nothing; see `step_trace.Watched`."""

    def show(self, state: TrainState, learning_rate: float) -> None:
        """Do nothing; see `step_trace.Watched`."""
