"""Names of a user's two models that differ: the models are aligned, and the names written to a file."""

from pathlib import Path

import numpy as np

from pipeline.backend_specs import BACKENDS
from pipeline.config.experiment import Config
from pipeline.config.models import OwnConfig
from pipeline.console import print_and_log
from pipeline.data.dataset import Data, Form
from pipeline.rng import generator
from pipeline.verify.alignment.align import Aligner
from pipeline.verify.alignment_table import alignment_table
from pipeline.verify.names.names_file import write_names
from pipeline.verify.names.row_search import unmatched
from pipeline.verify.sides.side import Side
from pipeline.verify.sides.worker import Opening

SAMPLES = 2  # of the batch on which the models are aligned


def write_own_names(config: Config, data: Data, path: Path) -> None:
    """Align a user's two models, each in a short process of its own, and write `path` for `model.names`.

    Raises:
        UserError: a model cannot be made, or refuses a batch of the data set.
    """
    print_and_log("the names of the two models differ: they are aligned, each in its own process")
    first, second = list(BACKENDS)[:2]
    inputs = {"x": example(data, config.seed)}
    with Side(*opening(config, data, first)) as left, Side(*opening(config, data, second)) as right:
        sides = left.wait_until_open(), right.wait_until_open()
        mapping = Aligner(*sides, (inputs, inputs), config.seed).align().mapping
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = write_names(path, mapping, *(side.description for side in sides))
    alone = (
        unmatched(mapping.left, mapping.is_used),
        unmatched(mapping.right, mapping.source >= 0),
    )
    print_and_log(alignment_table(rows, *alone))
    print_and_log(f"→  {path}; for other commands: model.names={path}", soft_wrap=True)
    if all(alone):
        print_and_log(
            f"[yellow]arrays of both models have no counterpart: add rows for them to {path}, and give "
            "it back with model.names[/]",
            soft_wrap=True,
        )


def opening(config: Config, data: Data, backend: str) -> tuple[str, Opening]:
    """Return what a process needs to make the user's model of a backend."""
    model = config.model
    assert isinstance(model, OwnConfig)
    is_image = data.form is Form.images
    given = Opening(
        f"model.{backend}",
        str(getattr(model, backend)),
        model.options,
        {},
        {"x": example(data, config.seed)},
        {"x": "NHWC"} if is_image else {},
        config.accelerator.threads or 1,
        arguments=(data.input_shape, data.outputs),
    )
    return backend, given


def example(data: Data, seed: int) -> np.ndarray:
    """Return a small batch as a model sees it: drawn, or the first tokens of the data set."""
    inputs = data.example
    if data.form is Form.tokens:
        return np.asarray(inputs[:SAMPLES], np.int64)
    return generator(seed, "verify", "x").standard_normal((SAMPLES, *inputs.shape[1:]))
