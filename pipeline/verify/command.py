"""The check that a command line, or a test, asks for."""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from math import prod
from os import getcwd
from pathlib import Path

from pipeline.config.fields import require
from pipeline.config.optimizers import OPTIMIZERS, OwnOptimizerConfig
from pipeline.errors import BadArgument, UserError
from pipeline.user_code import import_attribute
from pipeline.verify.arguments import Arguments
from pipeline.verify.inputs import Described, Drawn, parse
from pipeline.verify.judge import Request, judge
from pipeline.verify.names.names_file import read_names, write_names
from pipeline.verify.names.rows import Row, apply_rows
from pipeline.verify.recordings.comparison import compare_recordings
from pipeline.verify.recordings.recorder import SUFFIX
from pipeline.verify.sides.memory import require_memory
from pipeline.verify.sides.side import Side
from pipeline.verify.sides.subject import Inputs
from pipeline.verify.sides.weights_file import WeightsFile
from pipeline.verify.sides.worker import Opening
from pipeline.verify.trace.graph import Description
from pipeline.verify.verdict import Verdict

INPUTS_HINT = "Describe what both models take: --inputs 'x=float32[8,3,32,32] NCHW'."


def say_nothing(line: str) -> None:
    """Report no progress."""


def verify(asked: Arguments, report: Callable[[str], None] = say_nothing) -> Verdict:
    """Open both models, each in its own process, and judge them; or compare two recordings.

    `report` gets a line for each stage.

    Raises:
        UserError: an input is bad, or a side does not take it.
    """
    start = time.monotonic()
    check_results(asked)
    if are_recordings(asked.left, asked.right):
        verdict = compare_recordings(Path(asked.left), Path(asked.right))
        verdict.seconds = time.monotonic() - start
        return verdict
    require(bool(asked.inputs), "--inputs", "", "given", INPUTS_HINT)
    request = make_request(asked)
    inputs = request.inputs.draw(request.seeds[0])
    check_losses(asked)
    opening = partial(open_side, asked, request)
    report(f"opening {asked.left} and {asked.right}")
    with (
        Side("left", opening("left", inputs[0])) as left,
        Side("right", opening("right", inputs[1])) as right,
    ):
        sides = left.wait_until_open(), right.wait_until_open()
        for side in sides:
            report(f"{side.name}: {summary(side.description)}")
        require_memory(left.description, right.description)
        report("aligning and comparing them, in float64")
        try:
            verdict = judge(*sides, request)
        except UserError as error:
            raise with_path(error, asked) from error
    if asked.left_loss:
        verdict.checked["loss"] = [asked.left_loss, asked.right_loss]
    if asked.write_names and verdict.alignment:
        descriptions = [side.description for side in sides]
        rows = [Row(**row) for row in verdict.alignment]
        mapping = apply_rows(rows, *(description.arrays for description in descriptions))
        write_names(asked.write_names, mapping, *descriptions)
    verdict.seconds = time.monotonic() - start
    return verdict


def summary(model: Description) -> str:
    """Return the kind and the size of a model, and what its adapter has assumed."""
    size = sum(prod(array.shape) for array in model.arrays)
    return "; ".join([f"{model.kind}, {len(model.arrays)} arrays, {size:,} numbers", *model.notes])


def open_side(asked: Arguments, request: Request, side: str, inputs: Inputs) -> Opening:
    """Return what the process of a side needs."""
    is_left = side == "left"
    return Opening(
        side,
        asked.left if is_left else asked.right,
        *asked.of(side),
        inputs,
        request.inputs.layouts,
        asked.threads,
        asked.folders,
        loss=asked.left_loss if is_left else asked.right_loss,
    )


def check_losses(asked: Arguments) -> None:
    """Refuse a loss on one side alone.

    Raises:
        UserError: one side has none.
    """
    for side, one, other in (
        ("left", asked.left_loss, asked.right_loss),
        ("right", asked.right_loss, asked.left_loss),
    ):
        if other and not one:
            hint = f"Set --{side}-loss too, or --loss for both."
            raise UserError(
                f"--{side}-loss", "", problem="the other side alone has a loss", hint=hint
            )


def check_results(asked: Arguments) -> None:
    """Refuse a file that cannot be written before anything is computed.

    Raises:
        UserError: its folder does not exist, or is closed; or it is a folder itself.
    """
    for key, path in (("--json", asked.json), ("--write-names", asked.write_names)):
        if path is None:
            continue
        require(not path.is_dir(), key, path, "a file", f"Name a file in it: {path / 'NAME'}.")
        _check_folder(key, path, path.parent)
    if asked.page is not None:
        is_file = asked.page.suffix == ".html"
        is_made = is_file or not asked.page.is_dir()
        _check_folder("--page", asked.page, asked.page.parent if is_made else asked.page)


def _check_folder(key: str, path: Path, folder: Path) -> None:
    if not folder.is_dir():
        problem = f"there is no folder {folder}"
        raise UserError(key, path, problem=problem, hint=f"Make it first: mkdir -p {folder}")
    if not os.access(folder, os.W_OK):
        hint = "Name another folder."
        raise UserError(key, path, problem=f"the folder {folder} cannot be written to", hint=hint)


def with_path(error: UserError, asked: Arguments) -> UserError:
    """Return an error about a side with the import path that the user has given for it."""
    if error.key not in ("left", "right"):
        return error
    return UserError(**error.parts | {"value": getattr(asked, error.key)})


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
    known = sorted({*OPTIMIZERS} - {OwnOptimizerConfig.name})
    allowed = f"one of {', '.join(known)}"
    require(asked.optimizer in known, "--optimizer", asked.optimizer, allowed)
    return Request(
        make_inputs(asked.inputs),
        tuple(range(asked.seeds)),
        asked.steps,
        OPTIMIZERS[asked.optimizer](),
        read_names(asked.names, "--names") if asked.names else None,
        asked.lanes,
        WeightsFile.read(asked.weights, "--weights") if asked.weights else None,
    )


def make_inputs(given: tuple[str, ...]) -> Described | Drawn:
    """Return inputs from their descriptions, or from the user's function.

    Raises:
        BadArgument: there is no such function, or two inputs have one name.
    """
    if len(given) == 1 and "=" not in given[0] and ":" in given[0]:
        return import_inputs(given[0])
    specs = tuple(map(parse, given))
    for name, count in Counter(spec.name for spec in specs).items():
        if count > 1:
            problem, hint = f"{name} is described {count} times", "Describe each input once."
            raise BadArgument(f"--inputs {name}", problem=problem, hint=hint)
    return Described(specs)


def import_inputs(path: str) -> Drawn:
    """Import the user's function that draws inputs.

    Raises:
        UserError: there is none.
    """
    sys.path.insert(0, getcwd())
    try:
        function = import_attribute(path, "--inputs")
    finally:
        sys.path.pop(0)
    hint = "Name a function of a seed, or describe the inputs: 'x=float32[8,3,32,32] NCHW'."
    require(callable(function), "--inputs", path, "a function", hint)
    return Drawn(function, {}, path)
