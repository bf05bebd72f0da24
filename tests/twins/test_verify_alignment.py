"""Alignment of models that do the same in other ways, whose names say nothing."""

import jax
import numpy as np
import pytest
import torch
from alignment_pairs import (
    attention,
    convolutions,
    embeddings,
    recurrent,
    stacks,
    torch_styles,
    vision,
)
from alignment_pairs.pair import subject
from torch import nn

from lightning_impl.verify.subject import ModuleSubject
from pipeline.verify.alignment.align import Aligner
from pipeline.verify.checks.checker import Checker
from pipeline.verify.checks.leftovers import find_leftovers


@pytest.fixture(autouse=True)
def seeded(torch_float64):
    torch.manual_seed(0)


def aligned(left, right, inputs):
    sides = ModuleSubject(left, {}), ModuleSubject(right, {})
    alignment = Aligner(*sides, (inputs, inputs), 0).align()
    sides[1].load(alignment.mapping.to_right(alignment.values, sides[1].values()))
    outputs = [next(iter(side.trace(inputs, False).outputs.values())) for side in sides]
    return alignment, np.abs(outputs[0] - outputs[1]).max()


def test_a_real_difference_costs_no_trials_and_leaves_the_alignment_by_structure():
    left, right = torch_styles.Blocks(torch_styles.Apart), torch_styles.Blocks(torch_styles.Apart)
    left.insert(0, nn.LayerNorm(torch_styles.WIDTH, eps=1e-5))
    right.insert(0, nn.LayerNorm(torch_styles.WIDTH, eps=1e-2))
    inputs = {"x": np.random.default_rng(0).standard_normal(torch_styles.TOKENS)}
    alignment, difference = aligned(left, right, inputs)
    assert difference > 1e-4
    assert alignment.trials == 1
    assert (alignment.mapping.source == np.arange(len(alignment.mapping.source))).all()


PAIRS = {}
for module in (attention, convolutions, embeddings, recurrent, stacks, torch_styles, vision):
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
    assert all(match.is_confirmed for match in alignment.matching.matches)
    assert leftovers.needed == {"left": [], "right": []}
    assert (len(leftovers.named["left"]), len(leftovers.named["right"])) == pair.alone
    for finding in checker.compare_pass((inputs, inputs), False, 0):
        assert finding.value < pair.bar, finding


class Caching(nn.Module):
    """Makes a table when it is first called."""

    def __init__(self):
        super().__init__()
        self.a, self.tables = nn.Linear(torch_styles.WIDTH, torch_styles.WIDTH), {}

    def forward(self, x):
        if len(x) not in self.tables:
            self.tables[len(x)] = torch.sin(torch.arange(len(x)).double())[:, None]
        return self.a(x) * self.tables[len(x)]


def test_a_table_that_a_model_keeps_does_not_change_its_record():
    subject, inputs = ModuleSubject(Caching(), {}), {"x": np.ones((3, torch_styles.WIDTH))}
    first, again = subject.trace(inputs, False), subject.trace(inputs, False)
    assert [op.name for op in first.ops] == [op.name for op in again.ops]
    assert "sin" not in {op.name for op in first.ops}
