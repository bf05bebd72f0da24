"""Samples of a trained model in the record of its run: a picture, or a table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, sqrt
from pathlib import Path

import numpy as np

from pipeline.atomic_files import replacing
from pipeline.config.datasets import DatasetConfig
from pipeline.config.experiment import Config
from pipeline.config.own_datasets import TokensConfig
from pipeline.data.batch_plan import BatchPlan
from pipeline.data.dataset import Data
from pipeline.data.image_grid import grid, to_displayable_uint8
from pipeline.data.sources.tokens.tokenization import open_tokenizer
from pipeline.loggers.media_files import png
from pipeline.loggers.tracker import Tracker
from pipeline.run.backends import Backend, Device
from pipeline.run.experiment import Experiment
from pipeline.run.generation.decoding import LIKELIEST, Choice
from pipeline.run.generation.generate import Call, continuations, images, targets
from pipeline.run.preview_inputs import as_text
from pipeline.run.recording.recorder import Recorder
from pipeline.storage.portable_file import PortableCheckpoint
from pipeline.storage.portable_state import Arrays, state_of_weights

KEY = "samples"
FILE = "samples.png"
SIDE = 64  # pixels that an image in the picture has at least, if it can be enlarged to them
NEW_TOKENS = 64  # at most, behind the first half of a sample
DRAWN = Choice(temperature=0.8, top_k=40)


@dataclass(frozen=True)
class SampleRecord:
    """Callback that logs `task.samples` samples of the weights that were evaluated."""

    config: Config
    plan: BatchPlan
    backend: Backend
    device: Device
    folder: Path

    def __call__(
        self,
        step: int,
        metrics: Mapping[str, float],
        weights: Callable[[], Arrays],
        tracker: Tracker,
    ) -> None:
        """Make the samples, and log them."""
        state = state_of_weights(weights(), step)
        portable = PortableCheckpoint(state, None, {"source": str(self.folder)})
        recorder = Recorder(self.config, self.plan.data)
        experiment = Experiment(self.config, self.plan, recorder, self.folder)
        call = self.backend.trained_model(experiment, portable, self.device).call
        if self.plan.data.task.name == "denoising":
            self._log_picture(step, call, tracker)
        else:
            show = reader_of(self.config.dataset, self.plan.data)
            columns, rows = TABLES[self.plan.data.task.name](call, self.plan.data, show)
            tracker.log_table(step, KEY, columns, rows)

    def _log_picture(self, step: int, call: Call, tracker: Tracker) -> None:
        data = self.plan.data
        made = images(call, data, data.task.samples, self.config.seed)
        picture = arranged(made, data.test.fields[data.inputs[0]].max())
        tracker.log_image(step, KEY, picture)
        with replacing(self.folder / FILE) as aside:
            aside.write_bytes(png(picture))


def arranged(images: np.ndarray, brightest: float) -> np.ndarray:
    """Lay out images `[n, height, width, channels]` in a square, enlarged if they are small: uint8."""
    shown = images if images.shape[-1] in (1, 3) else images[..., :1]
    factor = max(1, SIDE // max(shown.shape[1:3]))
    large = to_displayable_uint8(shown, brightest).repeat(factor, axis=1).repeat(factor, axis=2)
    return grid(large, ceil(sqrt(len(large))))


def reader_of(dataset: DatasetConfig, data: Data) -> Callable[[np.ndarray], str]:
    """Return a function that shows tokens: as text, if the data set has a tokenizer or bytes."""
    if not (isinstance(dataset, TokensConfig) and dataset.tokenizer):
        return partial(as_text, data=data)
    tokenizer = open_tokenizer(dataset.tokenizer)

    def decode(tokens: np.ndarray) -> str:
        """Leave out numbers that the tokenizer does not have: a vocabulary may be padded."""
        return tokenizer.decode(tokens[tokens < tokenizer.vocabulary].tolist())

    return decode


Table = tuple[Sequence[str], list[list[str]]]


def table_of_continuations(call: Call, data: Data, show: Callable[[np.ndarray], str]) -> Table:
    """Continue the first halves of the first test samples, by the likeliest tokens and by drawn ones."""
    tokens = first(data, data.inputs[0])
    begun = tokens[:, : max(1, tokens.shape[1] // 2)]
    new = min(NEW_TOKENS, tokens.shape[1])
    written = [continuations(call, data, begun, new, choice) for choice in (LIKELIEST, DRAWN)]
    endings = [made[:, begun.shape[1] :] for made in written]
    text = [[show(row) for row in rows] for rows in (begun, *endings)]
    drawn = f"temperature {DRAWN.temperature}, the {DRAWN.top_k} likeliest"
    return ("beginning", "likeliest", drawn), [list(row) for row in zip(*text, strict=True)]


def table_of_targets(call: Call, data: Data, show: Callable[[np.ndarray], str]) -> Table:
    """Write the targets of the first test samples."""
    sources, right = [first(data, name) for name in data.inputs], first(data, "target")
    made = targets(call, data, sources)
    columns = ("source", "target", "generated", "right")
    rows = [
        [*map(show, row), "yes" if (row[1] == row[2]).all() else "no"]
        for row in zip(sources[0], right, made, strict=True)
    ]
    return columns, rows


def first(data: Data, name: str) -> np.ndarray:
    """Return a field of the first test samples."""
    count = min(data.task.samples, len(data.test))
    return np.asarray(data.test.fields[name][np.arange(count)])


TABLES = {"language": table_of_continuations, "seq2seq": table_of_targets}
