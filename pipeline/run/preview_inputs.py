"""Picture of the model's inputs: `mode=look`.

The samples are those of real training steps, augmented and normalised by the backend.
"""

from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

import numpy as np

from pipeline.atomic_files import replacing
from pipeline.config.experiment import Config
from pipeline.data.batch_plan import BatchPlan
from pipeline.data.dataset import Data, Field, Form, Moments, Split
from pipeline.data.image_grid import caption_height, corners, grid, to_displayable_uint8
from pipeline.errors import Interrupted
from pipeline.run.backends import Backend, Device
from pipeline.run.experiment import Experiment
from pipeline.run.recording.step_observer import Observer, Trace
from pipeline.storage.run_folder import CHECKPOINTS
from pipeline.training.intervals import make_intervals

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILE = "look.png"
MAX_SAMPLES = 64  # images, or points of vectors
COLUMNS = 8  # of images
MAX_TEXTS = 12  # token sequences
MAX_LETTERS = 100  # of each
BYTES = 256  # vocabulary of text as bytes


class Enough(Exception):
    """Ends the training once enough samples are collected."""


class InputPreview(Observer):
    """Collects the batches of the first steps, then ends the training."""

    watching = True

    def __init__(self, config: Config, plan: BatchPlan) -> None:
        times = make_intervals(config.train, len(plan.data.train))
        steps = -(-MAX_SAMPLES // config.train.batch_size)
        # At most the first epoch: a second one would repeat samples.
        self.last = min(steps, times.steps_per_epoch, times.total)
        self.batches: list[dict[str, np.ndarray]] = []

    def stepped(self, trace: Trace) -> None:
        """Keep the batch of a step; raise `Enough` after the last one."""
        if trace.step > 0:  # 0: the state before the first step
            self.batches.append(trace.batch)
            if trace.step >= self.last:
                raise Enough


def preview_inputs(backend: Backend, experiment: Experiment, device: Device) -> Path:
    """Train for a few steps, draw the model's inputs into a PNG, and return its path.

    No checkpoint is left, even after an interruption.
    """
    recorder, data = experiment.recorder, experiment.plan.data
    try:
        samples = first_inputs(backend, experiment, device)
    finally:
        rmtree(experiment.folder / CHECKPOINTS, ignore_errors=True)
    if code := recorder.stop_signal.exit_code:  # the signal arrived in the last step
        raise Interrupted(recorder.step, code)
    from matplotlib.figure import Figure  # late: takes half a second; draws without a display

    figure = Figure(layout="constrained")
    DRAWN[data.form](figure, figure.add_subplot(), samples, data)
    figure.suptitle(f"{data.name}: inputs of the model", fontsize="medium")
    path = experiment.folder / FILE
    with replacing(path) as aside:
        figure.savefig(aside, format="png")
    return path


def first_inputs(backend: Backend, experiment: Experiment, device: Device) -> Split:
    """Train with an `InputPreview` as observer; return the samples in the data set's units and layout."""
    observer, data = experiment.recorder.observer, experiment.plan.data
    assert isinstance(observer, InputPreview)
    with suppress(Enough):
        backend.train(experiment, device)
    return Split(
        {
            name: as_stored(
                np.concatenate([batch[name] for batch in observer.batches])[:MAX_SAMPLES],
                stored,
                data.moments.get(name),
            )
            for name, stored in data.train.fields.items()
        }
    )


def as_stored(values: np.ndarray, stored: Field, moments: Moments | None) -> np.ndarray:
    """Return a field of a batch in the units, layout and type of the data set."""
    if values.ndim == 4 and values.shape[1:] != stored.shape[1:]:  # [n, channels, height, width]
        values = np.moveaxis(values, 1, -1)
    if moments is not None:
        values = values * moments.std + moments.mean
    is_integer = np.issubdtype(stored.dtype, np.integer)
    return (np.rint(values) if is_integer else values).astype(stored.dtype)


def draw_images(figure: "Figure", axes: "Axes", samples: Split, data: Data) -> None:
    """Draw images in a grid, with their classes above them, and all views of one beside each other."""
    name, views = data.inputs[0], data.task.views
    shown = [name, *(view for view, of in views.items() if of == name)]
    side_by_side = np.stack([samples.arrays[field] for field in shown], axis=1)
    images = to_displayable_uint8(
        side_by_side.reshape(-1, *side_by_side.shape[2:]), data.test.fields[name].max()
    )
    if images.shape[-1] != 3:
        images = images[..., :1]  # imshow takes three channels or one
    shape, columns = images.shape[1:3], min(COLUMNS, len(images))
    picture = grid(images, columns)
    figure.set_size_inches(columns + 0.5, columns * picture.shape[0] / picture.shape[1] + 0.5)
    figure.set_dpi(min(max(shape[1], 100), 300))  # at least one dot per pixel
    axes.imshow(picture.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    places = corners(len(images), shape, columns)
    texts = [text for caption in captions(samples, data) for text in [caption] * len(shown)]
    for caption, (row, column) in zip(texts, places, strict=True):
        above = row - 0.5 - caption_height(shape) / 8
        style = {"ha": "center", "fontsize": 8, "parse_math": False}
        axes.text(column + shape[1] / 2 - 0.5, above, caption, **style)
    if "mask" in samples.fields:
        masks = samples.arrays["mask"].astype(np.float64)
        layer = np.full(picture.shape[:2], np.nan)
        for mask, (row, column) in zip(masks, places, strict=True):
            mask[(mask == 0) | (mask >= data.outputs)] = np.nan  # background, and what is ignored
            layer[row : row + shape[0], column : column + shape[1]] = mask
        axes.imshow(
            layer, cmap="turbo", vmin=0, vmax=data.outputs, alpha=0.5, interpolation="nearest"
        )
    axes.set_axis_off()


def captions(samples: Split, data: Data) -> list[str]:
    """Return the classes of images, as text; empty if they have none."""
    names = data.classes or range(max(data.outputs, 1))
    if "label" in samples.fields:
        return [str(names[label]) for label in samples.arrays["label"]]
    if "labels" in samples.fields:
        rows = samples.arrays["labels"] > 0
        return [" ".join(str(index) for index in np.flatnonzero(row)) for row in rows]
    return [""] * len(samples)


def draw_vectors(_: "Figure", axes: "Axes", samples: Split, data: Data) -> None:
    """Plot the first target over each input."""
    inputs, targets = (samples.arrays[name] for name in (data.inputs[0], *data.task.targets[:1]))
    for index, values in enumerate(inputs.T[:COLUMNS]):
        axes.plot(values, targets.reshape(len(samples), -1)[:, 0], "o", label=f"input {index}")
    axes.set(xlabel="input", ylabel="target")
    axes.legend()


def draw_tokens(figure: "Figure", axes: "Axes", samples: Split, data: Data) -> None:
    """Write the beginnings of the first texts and of their targets."""
    lines = []
    for row in range(min(MAX_TEXTS, len(samples))):
        lines += [f"in   {as_text(samples.arrays[data.inputs[0]][row], data)}"]
        lines += [f"out  {as_text(samples.arrays[name][row], data)}" for name in data.task.targets]
        lines += [""]
    figure.set_size_inches(0.07 * MAX_LETTERS + 0.5, 0.15 * len(lines) + 0.5)
    style = {"family": "monospace", "fontsize": 8, "va": "top", "parse_math": False}
    axes.text(0, 1, "\n".join(lines), **style)
    axes.set_axis_off()


def as_text(tokens: np.ndarray, data: Data) -> str:
    """Format bytes as in Python source, and other tokens as numbers, cut off at `MAX_LETTERS`."""
    is_bytes = data.sizes.get(data.inputs[0]) == BYTES
    text = repr(tokens.astype(np.uint8).tobytes())[2:-1] if is_bytes else " ".join(map(str, tokens))
    return text if len(text) <= MAX_LETTERS else f"{text[: MAX_LETTERS - 1]}…"


DRAWN = {Form.images: draw_images, Form.vectors: draw_vectors, Form.tokens: draw_tokens}
