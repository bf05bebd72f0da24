"""What a model is really fed, for a person to see: `mode=look`.

The samples come out of training steps as the model got them, augmented and normalised by the backend;
no third implementation stands in between.
"""

from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np

from pipeline.backends import Backend, Device
from pipeline.checkpoints import FOLDER
from pipeline.datasets import Data, Form, Split
from pipeline.errors import Interrupted
from pipeline.observer import Observer, Trace
from pipeline.pictures import caption_height, corners, for_the_eye, grid
from pipeline.runs import replacing
from pipeline.timetable import Timetable

FILE = "look.png"

SHOWN = 64  # images, or points of vectors, at most
COLUMNS = 8  # of images
TEXTS = 12  # token sequences at most
LETTERS = 100  # of each


class Enough(Exception):
    """As many samples have been seen as are shown."""


class Look(Observer):
    """Keeps the batches of the first steps, then ends the training.

    Args:
        timetable: of the run.
        batch_size: samples of a step.
    """

    watching = True

    def __init__(self, timetable: Timetable, batch_size: int) -> None:
        # No sample twice: not beyond the first epoch.
        self.last = min(-(-SHOWN // batch_size), timetable.steps_per_epoch, timetable.total)
        self.batches: list[dict[str, np.ndarray]] = []

    def stepped(self, trace: Trace) -> None:
        """Keep the batch of a step.

        Raises:
            Enough: it was the last that is needed.
        """
        if trace.step == 0:
            return  # before the first
        self.batches.append(trace.batch)
        if trace.step >= self.last:
            raise Enough


def look(backend: Backend, experiment: Any, device: Device) -> Path:
    """Train for the steps that it takes, and draw what the model was fed; the picture's path.

    Nothing else is left, also of a look that was interrupted: there is nothing to go on from.

    Raises:
        Interrupted: somebody asked to stop.
    """
    recorder = experiment.recorder
    try:
        samples = fed(backend, experiment, device)
    finally:
        rmtree(experiment.folder / FOLDER, ignore_errors=True)
    if code := recorder.interruption.exit_code:  # in the last step, which ends the training itself
        raise Interrupted(recorder.step, code)
    path = experiment.folder / FILE
    draw(samples, experiment.plan.data, path)
    return path


def fed(backend: Backend, experiment: Any, device: Device) -> Split:
    """The first training samples, in the data set's own units and layout, as the model got them.

    Args:
        backend: that trains.
        experiment: whose recorder has a `Look`.
        device: where.
    """
    observer, data = experiment.recorder.observer, experiment.plan.data
    with suppress(Enough):
        backend.train(experiment, device)
    inputs, targets = (
        np.concatenate([batch[part] for batch in observer.batches])[:SHOWN]
        for part in ("inputs", "targets")
    )
    known = data.train
    return Split(
        as_stored(inputs, data).astype(known.inputs.dtype), targets.astype(known.targets.dtype)
    )


def as_stored(inputs: np.ndarray, data: Data) -> np.ndarray:
    """Inputs of a model as the data set has them; of images, normalisation and layout are undone.

    Args:
        inputs: images `[n, height, width, channels]` or `[n, channels, height, width]`, normalised;
            vectors or tokens.
        data: the set.
    """
    if data.train.form is not Form.images:
        return inputs
    if inputs.shape[1:] != data.train.inputs.shape[1:]:
        inputs = np.moveaxis(inputs, 1, -1)
    return np.rint(inputs * data.std + data.mean)


def draw(samples: Split, data: Data, path: Path) -> None:
    """Draw samples with their targets into a PNG, which is replaced whole."""
    from matplotlib.figure import Figure  # late: half a second; draws by Agg, with no display

    figure = Figure(layout="constrained")
    axes = figure.add_subplot()
    DRAWN[samples.form](axes, samples, data)
    figure.suptitle(f"{data.name}: what the model is fed", fontsize="medium")
    with replacing(path) as aside:
        figure.savefig(aside, format="png")


def draw_images(axes: Any, samples: Split, data: Data) -> None:
    """Images side by side, with their classes above them."""
    images = for_the_eye(samples.inputs, int(data.test.inputs.max()))
    if images.shape[-1] != 3:
        images = images[..., :1]  # a screen has three channels or one
    shape, columns = images.shape[1:3], min(COLUMNS, len(images))
    picture = grid(images, columns)
    axes.figure.set_size_inches(columns + 0.5, columns * picture.shape[0] / picture.shape[1] + 0.5)
    axes.figure.set_dpi(min(max(shape[1], 100), 300))  # an inch to an image: enough for its pixels
    axes.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    for target, (row, column) in zip(
        samples.targets, corners(len(images), shape, columns), strict=True
    ):
        above = row - 0.5 - caption_height(shape) / 8
        name = str(target) if data.classes is None else data.classes[target]
        style = {"ha": "center", "fontsize": 8, "parse_math": False}
        axes.text(column + shape[1] / 2 - 0.5, above, name, **style)
    axes.set_axis_off()


def draw_vectors(axes: Any, samples: Split, data: Data) -> None:
    """The first target over each number of the inputs, as points."""
    targets = samples.targets.reshape(len(samples), -1)[:, 0]
    for index, values in enumerate(samples.inputs.T[:COLUMNS]):
        axes.plot(values, targets, "o", label=f"input {index}")
    axes.set(xlabel="input", ylabel="target")
    axes.legend()


def draw_tokens(axes: Any, samples: Split, data: Data) -> None:
    """The beginnings of the first texts, and of what is to be told after each byte."""
    lines = []
    for inputs, targets in zip(samples.inputs[:TEXTS], samples.targets[:TEXTS], strict=True):
        lines += [f"in   {as_text(inputs)}", f"out  {as_text(targets)}", ""]
    axes.figure.set_size_inches(0.07 * LETTERS + 0.5, 0.15 * len(lines) + 0.5)
    style = {"family": "monospace", "fontsize": 8, "va": "top", "parse_math": False}
    axes.text(0, 1, "\n".join(lines), **style)
    axes.set_axis_off()


def as_text(tokens: np.ndarray) -> str:
    """Bytes as they would be typed in Python, cut off where a line ends."""
    text = repr(tokens.tobytes())[2:-1]
    return text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…"


DRAWN = {Form.images: draw_images, Form.vectors: draw_vectors, Form.tokens: draw_tokens}
