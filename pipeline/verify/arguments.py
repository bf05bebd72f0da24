"""Command line of `python -m pipeline.verify`."""

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import yaml

from pipeline.commands import command
from pipeline.config.checks.suggestions import nearest
from pipeline.errors import BadArgument
from pipeline.verify.inputs import GRAMMAR

DESCRIPTION = """Tell if two models are the same, and if not, where they part and why.

LEFT and RIGHT are import paths, module:attribute, of a torch.nn.Module, a Flax linen or NNX module, an
Equinox module, or a pair of functions (init, apply); or of a class or a function that makes one. Both get the
same weights, drawn so that no layer is zero or symmetric; parameters are matched by themselves.
LEFT and RIGHT may also be two files .npz, each written by `with record(FILE) as log:` around the steps of a
training loop: these are compared without running anything.
Exit code 0: the same; 1: they part, or the input is bad (then there is no JSON); 2: no verdict."""


@dataclass(frozen=True)
class Arguments:
    """The command line of a check."""

    left: str
    right: str
    inputs: tuple[str, ...]
    left_options: Mapping[str, object]
    right_options: Mapping[str, object]
    left_keywords: Mapping[str, object]
    right_keywords: Mapping[str, object]
    optimizer: str = "adam"
    steps: int = 3
    seeds: int = 2
    threads: int = 1
    json: Path | None = None
    names: Path | None = None  # rows that replace the automatic alignment
    write_names: Path | None = None
    folders: tuple[str, ...] = ()  # of the import path of both sides, before all others
    lanes: bool = False
    page: Path | None = None
    left_loss: str = ""  # import paths of the user's own loss
    right_loss: str = ""
    weights: Path | None = None  # values of the first seed

    def of(self, side: str) -> tuple[Mapping[str, object], Mapping[str, object]]:
        """Return a side's options, and the keywords of its calls."""
        if side == "left":
            return self.left_options, self.left_keywords
        return self.right_options, self.right_keywords


class Parser(argparse.ArgumentParser):
    """A parser whose errors are those of any other bad input: exit code 2 is a verdict."""

    def error(self, message: str) -> NoReturn:
        """Raise the error that a message tells of.

        Raises:
            BadArgument: always.
        """
        if found := re.fullmatch(r"argument ([^:]+): (.*)", message):
            raise BadArgument(found[1], problem=found[2])
        _, _, names = message.partition(": ")
        if message.startswith("unrecognized"):
            known = [key for action in self._actions for key in action.option_strings]
            close = nearest(names.split()[0], known)
            hint = f"Did you mean {close}?" if close else "--help shows all arguments."
            raise BadArgument(names, problem="there is no such argument", hint=hint)
        hint = f"Write LEFT and RIGHT first: {command('verify')} LEFT RIGHT --inputs …"
        verb = "they are" if "," in names else "it is"
        raise BadArgument(names, problem=f"{verb} missing", hint=hint)


def parse_arguments(arguments: Sequence[str]) -> Arguments:
    """Parse the command line.

    Raises:
        BadArgument: it is none.
    """
    asked = make_parser().parse_args(arguments)
    both, call = _mapping("--options", asked.options), _mapping("--call", asked.call)
    return Arguments(
        asked.left,
        asked.right,
        tuple(asked.inputs),
        {**both, **_mapping("--left-options", asked.left_options)},
        {**both, **_mapping("--right-options", asked.right_options)},
        {**call, **_mapping("--left-call", asked.left_call)},
        {**call, **_mapping("--right-call", asked.right_call)},
        asked.optimizer,
        asked.steps,
        asked.seeds,
        json=asked.json,
        names=asked.names,
        write_names=asked.write_names,
        lanes=asked.lanes,
        page=asked.page,
        left_loss=asked.left_loss or asked.loss,
        right_loss=asked.right_loss or asked.loss,
        weights=asked.weights,
    )


def make_parser() -> Parser:
    """Make the parser of the command line."""
    parser = Parser(
        command("verify"),
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"An input is described as {GRAMMAR}\nor is a function of a seed, module:function, that "
        "returns a dictionary of arrays, or a pair of them.",
        allow_abbrev=False,
    )
    parser.add_argument("left", metavar="LEFT")
    parser.add_argument("right", metavar="RIGHT")
    parser.add_argument(
        "--inputs", nargs="+", action="extend", default=[], metavar="INPUT", help="see below"
    )
    for name, words in (
        ("options", "keyword arguments of the class or function, YAML or JSON"),
        ("call", "keyword arguments of each call of the model"),
    ):
        parser.add_argument(f"--{name}", metavar="{…}", default="", help=f"{words}, on both sides")
        for side in ("left", "right"):
            parser.add_argument(
                f"--{side}-{name}", metavar="{…}", default="", help=f"on the {side}"
            )
    loss = "module:function of the output and of inputs by name, in place of a random projection"
    parser.add_argument("--loss", metavar="PATH", default="", help=f"{loss}, on both sides")
    for side in ("left", "right"):
        parser.add_argument(f"--{side}-loss", metavar="PATH", default="", help=f"on the {side}")
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="safetensors, .pt, .pth or .msgpack of either side: the first seed starts from it",
    )
    parser.add_argument("--steps", type=int, default=3, help="optimizer steps; 0: none (default 3)")
    parser.add_argument(
        "--optimizer", default="adam", help="one of ours, by its name (default adam)"
    )
    parser.add_argument("--seeds", type=int, default=2, help="how many (default 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the verdict for programs")
    parser.add_argument(
        "--names",
        type=Path,
        metavar="FILE",
        help="names of the same parameters; others are matched by themselves",
    )
    parser.add_argument(
        "--write-names",
        type=Path,
        metavar="FILE",
        help="write the names that were matched, to be edited, for --names and model.names",
    )
    parser.add_argument(
        "--lanes",
        action="store_true",
        help="run both in fp64, fp32 and bf16, compiled and not, and tell what differences come from",
    )
    parser.add_argument(
        "--page",
        type=Path,
        metavar="FOLDER",
        help="write verdict.html and verdict.png there; or FILE.html",
    )
    return parser


def _mapping(key: str, text: str) -> dict[str, object]:
    """Parse keyword arguments.

    Raises:
        BadArgument: they are no mapping.
    """
    hint = "Write it like {width: 32, bias: false}."
    try:
        found = yaml.safe_load(text) if text else {}
    except yaml.YAMLError as error:
        problem = f"it is no YAML: {getattr(error, 'problem', None) or error}"
        raise BadArgument(f"{key} '{text}'", problem=problem, hint=hint) from None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        problem = "it is no mapping of names to values"
        raise BadArgument(f"{key} '{text}'", problem=problem, hint=hint)
    return found
