"""Pairs of models: one as it should be, one with a mistake or written otherwise."""

from dataclasses import dataclass, field

import torch

from benchmarks.verify_mutants.bases import BASES, Base, channels_last
from benchmarks.verify_mutants.mistakes import Mutant
from benchmarks.verify_mutants.renamed import Renamed, renamed
from benchmarks.verify_mutants.rewrites import Rewritten
from benchmarks.verify_mutants.settings import Plan
from flax_impl.verify import linen
from flax_impl.verify.subject import FunctionSubject
from lightning_impl.verify.subject import ModuleSubject
from pipeline.verify.inputs import Described, parse
from pipeline.verify.subject import Inputs, Subject

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
class Turned(Described):
    """Inputs of a pair: a side of JAX takes images channels last."""

    frameworks: tuple[str, str] = ("torch", "linen")

    def draw(self, seed: int) -> tuple[Inputs, Inputs]:
        """Draw the inputs of both sides."""
        drawn, _ = super().draw(seed)
        first, second = (
            drawn if framework in CHANNELS_FIRST else channels_last(drawn)
            for framework in self.frameworks
        )
        return first, second

    def variants(self) -> dict[str, Described]:
        """Return the same inputs in other sizes."""
        found = super().variants().items()
        return {name: Turned(variant.specs, self.frameworks) for name, variant in found}


@dataclass(frozen=True)
class Pair:
    """Two models under check and their inputs."""

    left: Subject
    right: Subject
    inputs: Turned


def make_pair(model: str, left: Side, right: Side) -> Pair:
    """Build both sides of a base model."""
    base = BASES[model]
    inputs = make_inputs(base, left, right)
    return Pair(make_subject(base, left), make_subject(base, right), inputs)


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


def make_inputs(base: Base, left: Side, right: Side) -> Turned:
    """Describe the inputs of a pair."""
    specs = tuple(parse(text) for text in base.inputs)
    return Turned(specs, (left.framework, right.framework))


def make_subject(base: Base, side: Side) -> Subject:
    """Build one side of a base model."""
    made = base.kind(side.framework)(Plan(base.settings, dict(side.changes), side.at))
    if side.framework == "torch":
        return ModuleSubject(Renamed(made) if side.is_renamed else made, {})
    example, _ = make_inputs(base, side, side).draw(0)
    function = linen.adapt(made, example, {})
    return FunctionSubject(renamed(function) if side.is_renamed else function)


def use_float64() -> None:
    """Set both frameworks for checks in this process."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch.manual_seed(0)
