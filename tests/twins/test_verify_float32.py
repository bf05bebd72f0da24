"""Tables that a model holds in float32 are told, and do not hide differences."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import flax_impl.verify
import lightning_impl.verify
from pipeline.verify.inputs import Described, parse
from pipeline.verify.judge import Request, judge
from pipeline.verify.verdict import Verdict

WIDTH, LENGTH, BASE = 8, 12, 10_000.0
pytestmark = pytest.mark.usefixtures("verify_workers")


def frequencies(base: float) -> np.ndarray:
    return base ** (-np.arange(0, WIDTH, 2) / WIDTH)


class TorchRotary(nn.Module):
    """Rotates pairs of features by the angle of their position; the frequencies are in float32."""

    def __init__(self) -> None:
        super().__init__()
        rates = torch.tensor(frequencies(BASE), dtype=torch.float32)
        self.register_buffer("rates", rates, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        angles = torch.arange(x.shape[1])[:, None] * self.rates
        cos, sin = angles.cos().repeat(1, 2), angles.sin().repeat(1, 2)
        left, right = x.chunk(2, -1)
        return x * cos + torch.cat((-right, left), -1) * sin


class TorchTable(nn.Module):
    """Adds a table of sines, computed in float32."""

    def __init__(self) -> None:
        super().__init__()
        rates = torch.tensor(frequencies(BASE), dtype=torch.float32)
        angles = torch.arange(LENGTH, dtype=torch.float32)[:, None] * rates
        self.register_buffer("table", torch.cat((angles.sin(), angles.cos()), 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table[: x.shape[1]]


class TorchMixer(nn.Module):
    def __init__(self, positions: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.embed, self.norm = nn.Linear(3, WIDTH), nn.LayerNorm(WIDTH, 1e-5)
        self.positions, self.query, self.key = (
            positions(),
            nn.Linear(WIDTH, WIDTH),
            nn.Linear(WIDTH, WIDTH),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.embed(x))
        query, key = self.positions(self.query(x)), self.positions(self.key(x))
        return torch.softmax(query @ key.transpose(1, 2), -1) @ x


def angles(base: float) -> np.ndarray:
    return np.arange(LENGTH)[:, None] * frequencies(base)


class FlaxRotary(linen.Module):
    """The same with a table of float32, made by NumPy in float64; `is_repeated` for each sample."""

    base: float = BASE
    is_repeated: bool = False

    def __call__(self, x: jax.Array) -> jax.Array:
        places = jnp.arange(x.shape[1])
        if self.is_repeated:
            places = jnp.broadcast_to(places, x.shape[:2])
        cos, sin = (
            jnp.asarray(f(np.tile(angles(self.base), 2)).astype(np.float32))[places]
            for f in (np.cos, np.sin)
        )
        left, right = jnp.split(x, 2, -1)
        return x * cos + jnp.concatenate((-right, left), -1) * sin


class FlaxTable(linen.Module):
    base: float = BASE

    def __call__(self, x: jax.Array) -> jax.Array:
        turns = angles(self.base)
        table = np.concatenate((np.sin(turns), np.cos(turns)), 1).astype(np.float32)
        return x + jnp.asarray(table)[: x.shape[1]]


class FlaxMixer(linen.Module):
    kind: Callable[..., linen.Module]
    epsilon: float = 1e-5

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        positions = self.kind(name="positions")
        x = linen.LayerNorm(self.epsilon, name="norm")(linen.Dense(WIDTH, name="embed")(x))
        query = positions(linen.Dense(WIDTH, name="query")(x))
        key = positions(linen.Dense(WIDTH, name="key")(x))
        return jax.nn.softmax(query @ key.swapaxes(1, 2)) @ x


@dataclass(frozen=True)
class Kind:
    left: Callable[[], nn.Module]
    right: Callable[..., linen.Module]


ROTARY, TABLE = Kind(TorchRotary, FlaxRotary), Kind(TorchTable, FlaxTable)
REPEATED = Kind(TorchRotary, partial(FlaxRotary, is_repeated=True))
KINDS = pytest.mark.parametrize(
    "kind", [ROTARY, TABLE, REPEATED], ids=["rotary", "sines", "rotary by sample"]
)


def verdict_of(kind: Kind, epsilon: float = 1e-5, **options: float) -> Verdict:
    inputs = Described((parse(f"x=float32[2,{LENGTH - 1},3]"),))
    given, _ = inputs.draw(0)
    left = lightning_impl.verify.open_subject(TorchMixer(kind.left), given, {}, {})
    made = FlaxMixer(partial(kind.right, **options), epsilon)
    right = flax_impl.verify.open_subject(made, given, {}, {})
    return judge(left, right, Request(inputs, seeds=(0,), steps=2))


@KINDS
def test_tables_in_float32_are_the_same_and_told_with_their_layer(kind):
    verdict = verdict_of(kind)
    assert verdict.verdict == "same", verdict.sentence
    notes = [note for note in verdict.notes if "float32" in note]
    assert len(notes) == 2
    for side, note in zip(("left", "right"), notes, strict=True):
        assert note.startswith(f"{side} holds constants in float32 (positions)"), note
        assert "is accepted as their rounding" in note


@KINDS
def test_a_table_of_another_base_is_no_rounding(kind):
    verdict = verdict_of(kind, base=BASE + 10)
    assert verdict.verdict == "part"
    assert (verdict.first.part, verdict.first.left) == ("forward", "positions"), verdict.sentence


@KINDS
def test_another_epsilon_does_not_hide_behind_the_rounding_of_a_table(kind):
    verdict = verdict_of(kind, epsilon=1.01e-5)
    assert verdict.verdict == "part"
    assert (verdict.first.part, verdict.first.left) == ("forward", "norm"), verdict.sentence
