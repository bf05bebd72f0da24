"""Pairs of models: one as it should be, one with a mistake or written otherwise."""

from dataclasses import dataclass, field

import torch

import flax_impl.verify
import lightning_impl.verify
from benchmarks.verify_mutants.bases import BASES, Base
from benchmarks.verify_mutants.mistakes import Mutant
from benchmarks.verify_mutants.renamed import Renamed, renamed
from benchmarks.verify_mutants.rewrites import Rewritten
from benchmarks.verify_mutants.settings import Plan
from flax_impl.verify.adapters import equinox, functions, linen, nnx
from flax_impl.verify.native import to_native
from flax_impl.verify.subject import FunctionSubject
from lightning_impl.verify.subject import ModuleSubject
from pipeline.verify.inputs import Described, parse
from pipeline.verify.sides.channels import FIRST, LAST, Channels
from pipeline.verify.sides.subject import Subject

ADAPTERS = {"linen": linen, "nnx": nnx, "equinox": equinox, "functions": functions}
CHANNELS_FIRST = ("torch", "equinox")


@dataclass(frozen=True)
class Side:
    """One side of a pair: a framework, and changes of the base's settings.

    `at` is the block with the changes; None: the whole model.
    """

    framework: str  # torch, linen, nnx, equinox or functions
    changes: dict[str, object] = field(default_factory=dict)
    at: int | None = None
    is_renamed: bool = False  # its parameters have meaningless names


@dataclass(frozen=True)
class Pair:
    """Two models under check and their inputs."""

    left: Subject
    right: Subject
    inputs: Described


def make_pair(model: str, left: Side, right: Side) -> Pair:
    """Build both sides of a base model."""
    base = BASES[model]
    inputs = Described(tuple(parse(text) for text in base.inputs))
    return Pair(make_subject(base, left, inputs), make_subject(base, right, inputs), inputs)


def make_subject(base: Base, side: Side, inputs: Described) -> Subject:
    """Build one side of a base model."""
    made = base.kind(side.framework)(Plan(base.settings, dict(side.changes), side.at))
    channels = Channels(inputs.layouts, FIRST if side.framework in CHANNELS_FIRST else LAST)
    if side.framework == "torch":
        return ModuleSubject(Renamed(made) if side.is_renamed else made, {}, channels)
    given = to_native(channels.turn(inputs.draw(0)[0]))
    function = ADAPTERS[side.framework].adapt(made, given, {})
    return FunctionSubject(renamed(function) if side.is_renamed else function, channels)


def mutant_sides(mutant: Mutant) -> tuple[Side, Side]:
    """Return both sides of a mutant."""
    wrong = Side(mutant.framework, dict(mutant.mistake.changes), mutant.at)
    right = Side("linen" if mutant.framework == "torch" else "torch")
    torch_first = (wrong, right) if mutant.framework == "torch" else (right, wrong)
    return torch_first if mutant.torch_is_left else torch_first[::-1]


def rewritten_sides(one: Rewritten) -> tuple[Side, Side]:
    """Return both sides of a rewrite; torch is on the left."""
    rewrite = one.rewrite
    new = Side(one.side, {**rewrite.both, **rewrite.changes}, None, rewrite.is_renamed)
    old = Side(one.other, dict(rewrite.both))
    return (new, old) if one.side == "torch" else (old, new)


def prepare() -> None:
    """Set both frameworks for checks in this process."""
    flax_impl.verify.prepare(1)
    lightning_impl.verify.prepare(1)
    torch.manual_seed(0)
