"""The smallest possible backend: `model=linear optimizer=sgd` on a classification, in NumPy."""

import json
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.atomic_files import replacing
from pipeline.config.experiment import Config
from pipeline.data.batch_plan import BatchPlan
from pipeline.data.dataset import Data, Split
from pipeline.devices.hardware import resident_memory_mb
from pipeline.devices.world import ALONE, World
from pipeline.errors import Interrupted
from pipeline.run.backends import Tested
from pipeline.run.experiment import Experiment
from pipeline.storage.checkpoints import Checkpoint, first_readable
from pipeline.storage.portable_state import PortableState
from pipeline.storage.recorder_state import Best, RecorderState
from pipeline.storage.run_folder import CHECKPOINTS
from pipeline.training.initializers import initial_parameters

Weights = dict[str, np.ndarray]


class Device:
    """The processor, in one process."""

    description = "numpy on cpu"
    devices = 1
    world = ALONE
    sharded = False
    fallback = ""

    def read(self, values: list[np.ndarray]) -> np.ndarray:
        """Stack the values of steps: float64 `[steps, values]`."""
        return np.stack(values)

    def peak_memory_mb(self) -> float:
        """Return the memory of this process in MB."""
        return resident_memory_mb()

    def lagged_max(self, number: int) -> int:
        """Return the number: there is one process."""
        return number

    def wait_for_all(self) -> None:
        """Return at once: there is one process."""


def prepare(config: Config, world: World) -> Device:
    """Return the one device there is."""
    return Device()


def train(experiment: Experiment, device: Device) -> None:
    """Train to the last step, from scratch or from a checkpoint."""
    plan, recorder, start = experiment.plan, experiment.recorder, 0
    if experiment.resume:
        checkpoint, (weights, state) = first_readable(
            experiment.resume, read_checkpoint, recorder.progress.message
        )
        start = checkpoint.step
        recorder.restore(start, state)
    else:
        weights = initial_weights(plan.data, experiment.config)
        recorder.describe(weights, plan.digest(lambda step: batch(plan, step)))
    recorder.begin(start, device)
    for step in range(start + 1, recorder.intervals.total + 1):
        chosen = batch(plan, step - 1)
        images = normalised(plan.data, chosen["image"])
        sums, gradients = loss_and_gradients(weights, images, chosen["label"])
        norm = np.sqrt(sum(np.sum(array**2) for array in gradients.values()))
        rate = recorder.learning_rate(step - 1)
        weights = {name: array - rate * gradients[name] for name, array in weights.items()}
        recorder.record_step(step, np.array([*sums.values(), norm]))
        evaluates = recorder.intervals.evaluates(step)
        if evaluates:
            recorder.pause()
            sums = evaluate(weights, plan.data, plan.data.val)[0]
            recorder.record_evaluation(step, sums, partial(dict, weights))
            recorder.resume("eval")
        exit_code = recorder.exit_code_if_stopped(step)
        if evaluates or exit_code is not None:
            write_checkpoint(experiment.folder, step, weights, recorder.state(step))
        if exit_code is not None:
            raise Interrupted(step, exit_code)


def test(experiment: Experiment, device: Device, checkpoint: Checkpoint) -> Tested:
    """Evaluate the weights in a checkpoint on the test set."""
    weights, _ = read_checkpoint(checkpoint)
    return Tested(*evaluate(weights, experiment.plan.data, experiment.plan.data.test))


def read_best(checkpoint: Checkpoint) -> Best | None:
    """Return what was the best evaluation when a checkpoint was written."""
    return read_checkpoint(checkpoint)[1].best


def export(
    experiment: Experiment, device: Device, checkpoint: Checkpoint
) -> tuple[PortableState, RecorderState]:
    """Return a checkpoint as another backend reads it."""
    weights, state = read_checkpoint(checkpoint)
    return PortableState(checkpoint.step, weights), state


def versions() -> dict[str, str]:
    """Return the version of NumPy."""
    return {"numpy": np.__version__}


def initial_weights(data: Data, config: Config) -> Weights:
    """Draw the weights at step 0, as every backend does."""
    features = int(np.prod(data.input_shape))
    shapes = {"fc.weight": (data.outputs, features), "fc.bias": (data.outputs,)}
    return initial_parameters(shapes, {"fc": "linear"}, config.seed, config.model.init)


def batch(plan: BatchPlan, step: int) -> dict[str, np.ndarray]:
    """Return the raw fields of the batch after `step` updates."""
    indices = plan.indices(step)
    return {name: array[indices] for name, array in plan.data.train.fields.items()}


def normalised(data: Data, inputs: np.ndarray) -> np.ndarray:
    """Return normalised samples, flattened: float64 `[batch, features]`."""
    mean, std = data.moments["image"]
    return ((inputs - mean) / std).reshape(len(inputs), -1)


def log_probabilities(weights: Weights, inputs: np.ndarray) -> np.ndarray:
    """Return the log of the softmax: float64 `[batch, classes]`."""
    logits = inputs @ weights["fc.weight"].T + weights["fc.bias"]
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def loss_and_gradients(
    weights: Weights, inputs: np.ndarray, targets: np.ndarray
) -> tuple[dict[str, float], Weights]:
    """Return sums over the batch, and gradients of the mean cross-entropy."""
    logs = log_probabilities(weights, inputs)
    errors = np.exp(logs)
    errors[np.arange(len(targets)), targets] -= 1
    errors /= len(targets)
    gradients = {"fc.weight": errors.T @ inputs, "fc.bias": errors.sum(axis=0)}
    return sums_of(logs, targets), gradients


def sums_of(logs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Return the loss and the number of right predictions, summed over samples."""
    loss = -logs[np.arange(len(targets)), targets].sum()
    return {"loss": float(loss), "correct": float((logs.argmax(axis=1) == targets).sum())}


def evaluate(weights: Weights, data: Data, split: Split) -> tuple[dict[str, float], Weights]:
    """Return sums over a split, and the predictions for its samples."""
    logs = log_probabilities(weights, normalised(data, split.fields["image"]))
    losses = -logs[np.arange(len(logs)), split.fields["label"]]
    confidence = np.exp(logs.max(axis=1))
    found = {"predicted": logs.argmax(axis=1), "loss": losses, "confidence": confidence}
    return sums_of(logs, split.fields["label"]), found


def write_checkpoint(run: Path, step: int, weights: Weights, state: RecorderState) -> None:
    """Write `checkpoints/step-N.npz`."""
    path = run / CHECKPOINTS / f"step-{step}.npz"
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as aside, aside.open("wb") as file:
        np.savez(file, recorder=json.dumps(state.to_json()), **weights)


def read_checkpoint(checkpoint: Checkpoint) -> tuple[Weights, RecorderState]:
    """Read what `write_checkpoint` wrote."""
    with np.load(checkpoint.path) as content:
        weights = {name: content[name] for name in content.files if name != "recorder"}
        return weights, RecorderState.from_json(json.loads(str(content["recorder"])))
