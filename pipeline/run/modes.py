"""Modes of a run: training with a test, a test alone, or a preview of the inputs."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from pipeline.config.experiment import Mode
from pipeline.console import say_line
from pipeline.run.backends import Test, Tested
from pipeline.run.experiment import Experiment
from pipeline.run.prepared import Prepared
from pipeline.run.preview_inputs import preview_inputs
from pipeline.run.recording.recorder import Recorder
from pipeline.run.transfer import export_tested, on_all_ranks
from pipeline.storage.checkpoints import (
    candidates,
    checkpoint_of_step,
    checkpoints_of,
    choose_tested,
)
from pipeline.storage.predictions import MOST, Outputs, predictions_of, write_outputs
from pipeline.storage.recorder_state import Best
from pipeline.storage.run_folder import PREDICTIONS
from pipeline.storage.run_result import RunResult
from pipeline.user_code import shortened


def train_and_test(experiment: Experiment, prepared: Prepared, result: RunResult) -> RunResult:
    """Train, then test the best checkpoint; without an evaluation, the last one."""
    prepared.backend.train(experiment, prepared.device)
    prepared.device.wait_for_all()  # until the first rank has written the last checkpoint
    find = partial(prepared.backend.test, experiment, prepared.device)
    return test_trained(experiment, prepared, result, find)


def test_trained(
    experiment: Experiment, prepared: Prepared, result: RunResult, find: Test
) -> RunResult:
    """Test the best checkpoint of a run that has trained; without an evaluation, the last one.

    `find` is the backend's `test` of a checkpoint.
    """
    recorder = experiment.recorder
    best = recorder.best or Best(None, None, recorder.step)
    checkpoint = checkpoint_of_step(experiment.folder, best.step)
    if checkpoint is None:  # deleted since
        checkpoint = checkpoints_of(experiment.folder)[0]
        recorder.progress.message(f"the best checkpoint is gone; testing {checkpoint.path}")
    result = replace(result, best=replace(best, checkpoint=str(checkpoint.path)))
    return test(experiment, prepared, result, partial(find, checkpoint), checkpoint.step)


def test_only(experiment: Experiment, prepared: Prepared, result: RunResult) -> RunResult:
    """Test the checkpoint that `checkpoint=` names, and print why; one of another backend is exported."""
    asked, folder = Path(str(experiment.config.checkpoint)), experiment.folder
    if candidates(asked, "checkpoint")[0].backend == experiment.config.backend.name:
        chosen, why = choose_tested(asked, "checkpoint", prepared.backend.read_best)
        path, step = chosen.path, chosen.step
    else:
        export = partial(export_tested, asked, "checkpoint", folder)
        [chosen] = on_all_ranks(export, folder, prepared.device, prepared.world)
        why, path, step = chosen.run["chosen"], chosen.source, chosen.state.step
    if prepared.world.is_main:
        say_line(f"testing {path} ({why})")
    experiment.recorder.stopwatch.end_setup()
    find = partial(prepared.backend.test, experiment, prepared.device, chosen)
    return test(experiment, prepared, result, find, step)


def test(
    experiment: Experiment,
    prepared: Prepared,
    result: RunResult,
    find: Callable[[], Tested],
    step: int,
) -> RunResult:
    """Test the checkpoint of a step, as `find` does; write the predictions, and samples of the model."""
    recorder = experiment.recorder
    recorder.pause()
    tested = find()
    recorder.resume("eval")
    metrics = recorder.record_test(step, tested.sums)
    if prepared.world.is_main:
        keep_predictions(experiment, tested.predictions)
    if tested.weights and prepared.world.is_main:
        show_samples(recorder, prepared, tested, step)
    return replace(result, status="completed", test=metrics)


def show_samples(recorder: Recorder, prepared: Prepared, tested: Tested, step: int) -> None:
    """Log samples that the tested model makes; without them the run is complete, too."""
    tracker, last = recorder.tracker, max(step, recorder.step)
    recorder.pause()
    try:
        prepared.samples(last, tracker.last, lambda: dict(tested.weights), tracker)
    except Exception as error:  # a user's own model may take anything
        recorder.progress.message(f"no samples: {shortened(error)}")
    recorder.resume("eval")


def keep_predictions(experiment: Experiment, found: Outputs) -> None:
    """Write the predictions for the test set, if the task has any and they are not too many."""
    data = experiment.plan.data
    if found and data.task.name == "classification":
        samples, labels = data.test.fields[data.inputs[0]], data.test.arrays["label"]
        predictions_of(samples, labels, found, data.classes).write(experiment.folder)
    elif found:
        write_outputs(experiment.folder, found)
    elif data.task.has_predictions:
        text = f"its outputs are more than {MOST:,} numbers: no {PREDICTIONS}"
        experiment.recorder.progress.message(text)


def preview(experiment: Experiment, prepared: Prepared, result: RunResult) -> RunResult:
    """Draw the inputs of the first steps."""
    picture = preview_inputs(prepared.backend, experiment, prepared.device)
    return replace(result, status="completed", look=str(picture))


MODES = {Mode.train: train_and_test, Mode.test: test_only, Mode.look: preview}
