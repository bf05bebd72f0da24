"""Alignment of models that do the same in other ways, whose names say nothing."""

import jax
import numpy as np
import pytest
import torch
from alignment_pairs import attention, convolutions, embeddings, recurrent, stacks
from alignment_pairs.pair import subject
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from lightning_impl.verify.subject import ModuleSubject
from pipeline.verify.alignment.align import Aligner
from pipeline.verify.checks.checker import Checker
from pipeline.verify.checks.leftovers import find_leftovers

WIDTH, HEADS, LENGTH, ROWS = 8, 2, 5, 11


def table(*shape):
    return nn.Parameter(torch.randn(*shape))


class Apart(nn.Module):
    """Attention with separate projections, made in another order than they are used."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x):
        v, k, q = (
            p(x).unflatten(-1, (HEADS, -1)).transpose(1, 2) for p in (self.c, self.a, self.d)
        )
        y = torch.softmax(q @ k.mT / 2, -1) @ v
        return x + self.b(y.transpose(1, 2).flatten(2))


class Fused(nn.Module):
    """Attention with one projection; query, key and value of every head side by side."""

    def __init__(self):
        super().__init__()
        self.m, self.n = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        q, k, v = self.m(x).unflatten(-1, (HEADS, 3, -1)).permute(3, 0, 2, 1, 4)
        y = torch.softmax(q @ k.mT / 2, -1) @ v
        return x + self.n(y.transpose(1, 2).flatten(2))


class Blocks(nn.Sequential):
    """Three blocks and a last layer."""

    def __init__(self, block):
        super().__init__(*(block() for _ in range(3)), nn.Linear(WIDTH, 3))


class Lookup(nn.Module):
    """Tokens and positions that are looked up."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (
            nn.Embedding(ROWS, WIDTH),
            nn.Embedding(ROWS, WIDTH),
            nn.Linear(WIDTH, 3),
        )

    def forward(self, ids):
        return self.c(self.a(ids) + self.b(torch.arange(ids.shape[1])))


class Sliced(nn.Module):
    """Tokens by one-hot vectors, positions by a slice."""

    def __init__(self):
        super().__init__()
        self.z, self.y, self.x = table(1, ROWS, WIDTH), table(WIDTH, ROWS), table(WIDTH, 3)
        self.w = table(1, 3)

    def forward(self, ids):
        tokens = F.one_hot(ids, ROWS).double() @ self.y.T
        return (tokens + self.z[:, : ids.shape[1]]) @ self.x + self.w


class Normed(nn.Module):
    """Weight norm, and a table resized to its own size."""

    def __init__(self):
        super().__init__()
        self.a = weight_norm(nn.Conv1d(WIDTH, 2 * WIDTH, 3, padding=1, groups=2))
        self.b = table(1, WIDTH, LENGTH)
        self.c = nn.Linear(2 * WIDTH, 3)

    def forward(self, x):
        x = x.mT + F.interpolate(self.b, size=LENGTH, mode="linear")
        return self.c(self.a(x).mT)


class NormedByHand(nn.Module):
    """The same with kernels `[width, in, out]`."""

    def __init__(self):
        super().__init__()
        self.t, self.g, self.v = (
            table(LENGTH, WIDTH),
            table(2 * WIDTH),
            table(3, WIDTH // 2, 2 * WIDTH),
        )
        self.u, self.r, self.s = table(2 * WIDTH), table(2 * WIDTH, 3), table(3)

    def forward(self, x):
        kernel = self.v / self.v.square().sum((0, 1)).sqrt() * self.g
        y = F.conv1d((x + self.t).mT, kernel.permute(2, 1, 0), self.u, padding=1, groups=2).mT
        return y @ self.r + self.s


class ChannelsFirst(nn.Module):
    """A norm over whole images, and a layer of the flattened image."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (
            nn.Conv2d(2, 4, 3, padding=1),
            nn.LayerNorm([4, 3, 5]),
            nn.Linear(60, 3),
        )

    def forward(self, x):
        return self.c(torch.tanh(self.b(self.a(x))).flatten(1))


class ChannelsLast(nn.Module):
    """The same with channels last."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (
            nn.Linear(60, 3),
            nn.LayerNorm([3, 5, 4]),
            nn.Conv2d(2, 4, 3, padding=1),
        )

    def forward(self, x):
        return self.a(torch.tanh(self.b(self.c(x).permute(0, 2, 3, 1))).flatten(1))


class Gated(nn.Module):
    """A gate and what goes through it; `is_first` is whether the gate is computed first."""

    def __init__(self, is_first):
        super().__init__()
        self.is_first, self.c = is_first, nn.Linear(16, 3)
        self.a, self.b = nn.Linear(WIDTH, 16), nn.Linear(WIDTH, 16)

    def forward(self, x):
        if self.is_first:
            return self.c(F.silu(self.a(x)) * self.b(x))
        values = self.b(x)
        return self.c(values * F.silu(self.a(x)))


class Reading(nn.Module):
    """Layers that all read the same memory; `is_first` is whether keys come before values."""

    def __init__(self, is_first):
        super().__init__()
        self.is_first, self.start = is_first, table(LENGTH, WIDTH)
        self.layers = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(9))

    def forward(self, x):
        y = self.start
        for q, k, v in zip(self.layers[:3], self.layers[3:6], self.layers[6:], strict=True):
            if self.is_first:
                keys, values = k(x), v(x)
            else:
                values, keys = v(x), k(x)
            y = y + torch.softmax(q(y) @ keys.mT, -1) @ values
        return y


TOKENS = (3, LENGTH, WIDTH)
CASES = {
    "separate and fused projections": (lambda: Blocks(Apart), lambda: Blocks(Fused), TOKENS),
    "fused and separate projections": (lambda: Blocks(Fused), lambda: Blocks(Apart), TOKENS),
    "lookups, slices and one-hot vectors": (Lookup, Sliced, None),
    "weight norm and interpolation": (Normed, NormedByHand, TOKENS),
    "channels first and last": (ChannelsFirst, ChannelsLast, (2, 2, 3, 5)),
    "gate first and last": (lambda: Gated(True), lambda: Gated(False), (6, WIDTH)),
    "keys before and after values": (lambda: Reading(True), lambda: Reading(False), (2, 4, WIDTH)),
}


@pytest.fixture(autouse=True)
def float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(before)


def aligned(left, right, inputs):
    sides = ModuleSubject(left, {}), ModuleSubject(right, {})
    alignment = Aligner(*sides, (inputs, inputs), 0).align()
    sides[1].load(alignment.mapping.to_right(alignment.values, sides[1].values()))
    outputs = [next(iter(side.trace(inputs, False).outputs.values())) for side in sides]
    return alignment, np.abs(outputs[0] - outputs[1]).max()


@pytest.mark.parametrize("name", CASES)
def test_models_that_do_the_same_in_other_ways_are_aligned_by_structure_and_values(name):
    left, right, shape = CASES[name]
    random = np.random.default_rng(0)
    ids = {"ids": random.integers(0, ROWS, (3, LENGTH))}
    alignment, difference = aligned(
        left(), right(), {"x": random.standard_normal(shape)} if shape else ids
    )
    assert difference < 1e-12
    assert (alignment.mapping.source >= 0).all()
    assert alignment.mapping.is_used.all()
    assert all(match.is_confirmed for match in alignment.matching.matches)


def test_a_real_difference_costs_no_trials_and_leaves_the_alignment_by_structure():
    left, right = Blocks(Apart), Blocks(Apart)
    left.insert(0, nn.LayerNorm(WIDTH, eps=1e-5))
    right.insert(0, nn.LayerNorm(WIDTH, eps=1e-2))
    inputs = {"x": np.random.default_rng(0).standard_normal(TOKENS)}
    alignment, difference = aligned(left, right, inputs)
    assert difference > 1e-4
    assert alignment.trials == 1
    assert (alignment.mapping.source == np.arange(len(alignment.mapping.source))).all()


PAIRS = {}
for module in (attention, convolutions, embeddings, recurrent, stacks):
    PAIRS |= module.PAIRS


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if pair.is_slow else [])
        for name, pair in PAIRS.items()
    ],
)
def test_a_port_in_another_style_is_aligned_without_names(name):
    jax.config.update("jax_enable_x64", True)
    torch.set_default_dtype(torch.float32)
    pair = PAIRS[name]
    inputs = pair.inputs()
    sides = subject(pair.left(), inputs), subject(pair.right(), inputs)
    alignment = Aligner(*sides, (inputs, inputs), 0).align()
    checker = Checker(*sides, alignment)
    checker.load(alignment.values)
    outputs = [side.trace(inputs, False).outputs for side in sides]
    checker.match_outputs(*outputs)
    leftovers = find_leftovers(checker, (inputs, inputs))
    assert leftovers.needed == {"left": [], "right": []}
    assert (len(leftovers.named["left"]), len(leftovers.named["right"])) == pair.alone
    for finding in checker.compare_pass((inputs, inputs), False, 0):
        assert finding.value < 1e-11, finding


class Caching(nn.Module):
    """Makes a table when it is first called."""

    def __init__(self):
        super().__init__()
        self.a, self.tables = nn.Linear(WIDTH, WIDTH), {}

    def forward(self, x):
        if len(x) not in self.tables:
            self.tables[len(x)] = torch.sin(torch.arange(len(x)).double())[:, None]
        return self.a(x) * self.tables[len(x)]


def test_a_table_that_a_model_keeps_does_not_change_its_record():
    subject, inputs = ModuleSubject(Caching(), {}), {"x": np.ones((3, WIDTH))}
    first, again = subject.trace(inputs, False), subject.trace(inputs, False)
    assert [op.name for op in first.ops] == [op.name for op in again.ops]
    assert "sin" not in {op.name for op in first.ops}
