"""Differences that ordinary numbers in float64 do not show: bounds, and half precision."""

import numpy as np
import pytest
import torch
from torch import nn

import lightning_impl.verify
from pipeline.verify.inputs import Described, parse
from pipeline.verify.judge import Request, judge
from pipeline.verify.judging.magnitudes import FACTOR, enlarged
from pipeline.verify.verdict import Verdict

pytestmark = pytest.mark.usefixtures("verify_workers")


class Bounded(nn.Module):
    """Two layers with a function between them."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.first, self.between, self.last = nn.Linear(4, 6), between, nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.between(self.first(x)))


class Overflowing(nn.Module):
    """A softplus by its definition, which is infinite where the library's is linear."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (1 + (3 * x).exp()).log() / 3


class Rounded(nn.Module):
    """A ReLU whose result is converted there and back."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.relu().to(self.dtype).to(x.dtype)


def verdict_of(left: nn.Module, right: nn.Module) -> Verdict:
    """Judge two models that differ between their layers."""
    inputs = Described((parse("x=float32[5,4]"),))
    drawn, _ = inputs.draw(0)
    sides = (
        lightning_impl.verify.open_subject(Bounded(one), drawn, {}, {}) for one in (left, right)
    )
    return judge(*sides, Request(inputs, steps=0))


@pytest.mark.parametrize("bound", [6.0, 40.0])
def test_a_bound_that_only_larger_numbers_reach_is_a_difference(bound):
    verdict = verdict_of(nn.ReLU(), nn.Hardtanh(0.0, bound))
    assert verdict.verdict == "part"
    assert "between" in verdict.first.right
    assert f"the difference shows with numbers {FACTOR:.0f} times as large" in verdict.notes
    assert verdict.cause.confirmed


def test_a_rewrite_that_overflows_with_larger_numbers_is_no_difference():
    verdict = verdict_of(nn.Softplus(beta=3), Overflowing())
    assert verdict.verdict == "same", verdict.reason
    assert "not compared with larger numbers: a side does not stay finite" in verdict.notes


def test_integers_are_not_enlarged():
    found = enlarged({"x": np.ones(3), "ids": np.arange(3), "mask": np.array([True, False])})
    np.testing.assert_array_equal(found["x"], np.full(3, FACTOR))
    assert (found["ids"].tolist(), found["mask"].tolist()) == ([0, 1, 2], [True, False])


@pytest.mark.parametrize(("dtype", "unit"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_half_precision_on_one_side_alone_is_a_difference(dtype, unit):
    verdict, name = verdict_of(nn.ReLU(), Rounded(dtype)), str(dtype).removeprefix("torch.")
    assert verdict.verdict == "part"
    assert (verdict.first.left, verdict.first.right) == ("nowhere", "between")
    assert verdict.first.difference == unit
    assert verdict.cause.remedy.startswith(f"right computes in {name} in between;")
    assert f"right converts to {name} in between; compared in float64" in verdict.notes


def test_half_precision_on_both_sides_and_float32_are_told():
    verdict = verdict_of(Rounded(torch.bfloat16), Rounded(torch.bfloat16))
    assert verdict.verdict == "same", verdict.reason
    assert "left converts to bfloat16 in between; compared in float64" in verdict.notes
    verdict = verdict_of(nn.ReLU(), Rounded(torch.float32))
    assert verdict.verdict == "same", verdict.reason
    assert verdict.notes == ["right converts to float32 in between; compared in float64"]
