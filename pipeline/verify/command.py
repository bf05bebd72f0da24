"""The check that a command line, or a test, asks for."""

import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from os import getcwd
from pathlib import Path

from pipeline.config.fields import require
from pipeline.config.optimizers import OPTIMIZERS
from pipeline.errors import BadArgument
from pipeline.verify.arguments import Arguments
from pipeline.verify.inputs import Described, Drawn, parse
from pipeline.verify.judge import Request, judge
from pipeline.verify.names.names_file import read_names, write_names
from pipeline.verify.names.rows import Row, apply_rows
from pipeline.verify.recordings.comparison import compare_recordings
from pipeline.verify.recordings.recorder import SUFFIX
from pipeline.verify.sides.side import Side
from pipeline.verify.sides.worker import Opening
from pipeline.verify.verdict import Verdict

INPUTS_HINT = "Describe what both models take: --inputs 'x=float32[8,3,32,32] NCHW'."


def verify(asked: Arguments) -> Verdict:
    """Open both models, each in its own process, and judge them; or compare two recordings.

    Raises:
        UserError: an input is bad, or a side does not take it.
    """
    start = time.monotonic()
    if are_recordings(asked.left, asked.right):
        verdict = compare_recordings(Path(asked.left), Path(asked.right))
        verdict.seconds = time.monotonic() - start
        return verdict
    require(bool(asked.inputs), "--inputs", "", "given", INPUTS_HINT)
    request = make_request(asked)
    inputs = request.inputs.draw(request.seeds[0])
    opening = partial(
        Opening, layouts=request.inputs.layouts, threads=asked.threads, folders=asked.folders
    )
    with (
        Side("left", opening("left", asked.left, *asked.of("left"), inputs[0])) as left,
        Side("right", opening("right", asked.right, *asked.of("right"), inputs[1])) as right,
    ):
        sides = left.wait_until_open(), right.wait_until_open()
        verdict = judge(*sides, request)
    if asked.write_names and verdict.alignment:
        descriptions = [side.description for side in sides]
        rows = [Row(**row) for row in verdict.alignment]
        mapping = apply_rows(rows, *(description.arrays for description in descriptions))
        write_names(asked.write_names, mapping, *descriptions)
    verdict.seconds = time.monotonic() - start
    return verdict


def are_recordings(left: str, right: str) -> bool:
    """True for two recordings, False for two import paths.

    Raises:
        BadArgument: one of each.
    """
    found = [path.endswith(SUFFIX) for path in (left, right)]
    if found[0] != found[1]:
        recording, model = (left, right) if found[0] else (right, left)
        problem = f"{recording} is a recording, {model} is none"
        hint = f"Give two import paths, module:attribute, or two files {SUFFIX} written by record(FILE)."
        raise BadArgument(f"{left} {right}", problem=problem, hint=hint)
    return all(found)


def make_request(asked: Arguments) -> Request:
    """Return what to check."""
    require(asked.steps >= 0, "--steps", asked.steps, "0 or more")
    require(asked.seeds >= 1, "--seeds", asked.seeds, "at least 1")
    known = ", ".join(sorted(OPTIMIZERS))
    require(asked.optimizer in OPTIMIZERS, "--optimizer", asked.optimizer, f"one of {known}")
    return Request(
        make_inputs(asked.inputs),
        tuple(range(asked.seeds)),
        asked.steps,
        OPTIMIZERS[asked.optimizer](),
        read_names(asked.names, "--names") if asked.names else None,
        asked.lanes,
    )


def make_inputs(given: tuple[str, ...]) -> Described | Drawn:
    """Return inputs from their descriptions, or from the user's function."""
    if len(given) == 1 and "=" not in given[0]:
        return Drawn(import_function(given[0]), {})
    return Described(tuple(map(parse, given)))


def import_function(path: str) -> Callable[[int], object]:
    """Import the user's function that draws inputs.

    Raises:
        BadArgument: there is none.
    """
    module, _, name = path.partition(":")
    sys.path.insert(0, getcwd())
    hint = "Name a function of a seed as module:function, or describe the inputs: x=float32[8,3,32,32] NCHW"
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadArgument(f"--inputs {path}", problem=str(error).lower(), hint=hint) from error
    finally:
        sys.path.pop(0)
