"""The two models of `model=own`, aligned as `pipeline.verify` aligns any two."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.backend_specs import BACKENDS
from pipeline.config.experiment import Config
from pipeline.config.models import OwnConfig
from pipeline.console import print_and_log
from pipeline.data.dataset import Data, form_of
from pipeline.rng import generator
from pipeline.verify.alignment.names import words
from pipeline.verify.alignment_table import alignment_table
from pipeline.verify.inputs import Described, Spec
from pipeline.verify.judge import judge_alignment
from pipeline.verify.judging.case import Case, Request
from pipeline.verify.names.names_file import write_names
from pipeline.verify.names.parsing import parse_block
from pipeline.verify.names.row_search import find_rows, unmatched
from pipeline.verify.sides.side import Side
from pipeline.verify.sides.subject import Inputs
from pipeline.verify.sides.worker import Opening
from pipeline.verify.trace.graph import Description
from pipeline.verify.verdict import SIDES, Verdict

SAMPLES = 2  # of the batch on which the models are aligned
MOST_READ = 512  # samples in which the largest integer is looked for, where the data do not say it


@dataclass(frozen=True)
class OwnPair:
    """The alignment of two models.

    `verdict` says why it is in doubt; None if it is not. `files` are those of the user's code that either
    process has imported.
    """

    case: Case
    verdict: Verdict | None
    descriptions: tuple[Description, Description]
    files: Sequence[str]

    @property
    def doubt(self) -> str:
        """Why the alignment is in doubt, as `pipeline.verify` says it; empty if it is not."""
        found = self.verdict.sentence if self.verdict else ""
        for side, backend in zip(SIDES, BACKENDS, strict=False):
            found = found.replace(f"({side})", f"(model.{backend})")
        return found.replace(", by inf", "")

    def write(self, path: Path) -> None:
        """Write the file for `model.names`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_names(path, self.case.alignment.mapping, *self.descriptions)

    @property
    def summary(self) -> str:
        """How many parameters of the first model are aligned, and by what."""
        by_name: dict[str, bool] = {}
        trained = {array.name for array in self.descriptions[0].arrays if array.is_trained}
        arrays = self.descriptions
        for row in find_rows(self.case.alignment.mapping):
            ours = parse_block(row.left, [array.name for array in arrays[0].arrays]).name
            theirs = parse_block(row.right, [array.name for array in arrays[1].arrays]).name
            if ours in trained:
                by_name[ours] = by_name.get(ours, True) and _are_alike(ours, theirs)
        count = sum(by_name.values())
        others = len(by_name) - count
        return f"{count} parameters aligned by name, {others} by structure"


def align_own_pair(config: Config, data: Data) -> OwnPair:
    """Align a user's two models, each in a short process of its own.

    Raises:
        UserError: a model cannot be made, or refuses a batch of the data set.
    """
    first, second = list(BACKENDS)[:2]
    request = Request(described_inputs(data), (config.seed,))
    inputs = request.inputs.draw(config.seed)[0]
    with (
        Side(*opening(config, data, first, request, inputs)) as left,
        Side(*opening(config, data, second, request, inputs)) as right,
    ):
        descriptions = left.wait_until_open().description, right.wait_until_open().description
        case, verdict = judge_alignment(left, right, request)
        files = dict.fromkeys([*left.imported_files(), *right.imported_files()])
    return OwnPair(case, verdict, descriptions, [*files])


def write_own_names(config: Config, data: Data, path: Path) -> None:
    """Align a user's two models, show the alignment, and write `path` for `model.names`, doubts or not.

    Raises:
        UserError: a model cannot be made, or refuses a batch of the data set.
    """
    print_and_log("the names of the two models differ: they are aligned, each in its own process")
    pair = align_own_pair(config, data)
    pair.write(path)
    mapping = pair.case.alignment.mapping
    alone = (
        unmatched(mapping.left, mapping.is_used),
        unmatched(mapping.right, mapping.source >= 0),
    )
    print_and_log(alignment_table(find_rows(mapping), *alone))
    print_and_log(f"→  {path}; for other commands: model.names={path}", soft_wrap=True)
    if all(alone):
        print_and_log(
            f"[yellow]arrays of both models have no counterpart: add rows for them to {path}, and give "
            "it back with model.names[/]",
            soft_wrap=True,
        )


def opening(
    config: Config, data: Data, backend: str, request: Request, inputs: Inputs
) -> tuple[str, Opening]:
    """Return what a process needs to make the user's model of a backend."""
    model = config.model
    assert isinstance(model, OwnConfig)
    given = Opening(
        f"model.{backend}",
        str(getattr(model, backend)),
        model.options,
        {},
        inputs,
        request.inputs.layouts,
        config.accelerator.threads or 1,
        tuple(sys.path),
        arguments=(data.input_shape, data.outputs),
        offered={"inputs": data.call_shapes},
    )
    return backend, given


def _are_alike(ours: str, theirs: str) -> bool:
    """Return whether two names have the same words, but for what stands in front of one."""
    one, other = words(ours), words(theirs)
    shorter = min(len(one), len(other))
    return one[-shorter:] == other[-shorter:]


def described_inputs(data: Data) -> Described:
    """Describe what a model is called with: of small batches, drawn from the types and sizes of the data."""
    specs = []
    for name, shape in data.call_shapes.items():
        field = data.train.fields.get(name)
        drawn = field if field is not None else _noise(data, name)
        is_integer = np.issubdtype(drawn.dtype, np.integer) and name not in data.moments
        kind = "int64" if is_integer else "float32"
        high = data.sizes.get(name) or (
            int(np.asarray(drawn[:MOST_READ]).max()) + 1 if is_integer else 2
        )
        layout = "NHWC" if form_of(drawn).name == "images" else ""
        specs.append(Spec(name, kind, (SAMPLES, *shape), 0, max(high, 1), layout))
    return Described(tuple(specs))


def _noise(data: Data, name: str) -> np.ndarray:
    return data.task.draw(name, generator(0, name), data.train.shapes(MOST_READ))
