"""Differences that one pass of the given size does not show: who shares a mask, and longer inputs."""

import pytest
import torch
from torch import Tensor, nn

from lightning_impl.verify.subject import ModuleSubject
from pipeline.verify.checks.layer_table import find_parting
from pipeline.verify.inputs import Described, parse
from pipeline.verify.judge import Request, judge
from pipeline.verify.sides.channels import FIRST, Channels
from pipeline.verify.verdict import Answer, Part, Verdict

pytestmark = pytest.mark.usefixtures("torch_float64")


class Dropped(nn.Module):
    """Two layers, with a mask between them that some axes share."""

    def __init__(self, shared: tuple[int, ...], rate: float = 0.2) -> None:
        super().__init__()
        self.first, self.second, self.shared = nn.Linear(5, 6), nn.Linear(6, 3), shared
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        if self.training:
            shape = [1 if axis in self.shared else size for axis, size in enumerate(x.shape)]
            mask = torch.empty(shape).bernoulli_(1 - self.rate)
            x = x * mask / (1 - self.rate)
        return self.second(x)


class Positions(nn.Module):
    """Embeds tokens and positions; positions end."""

    def __init__(self, last: int, padding: int | None = None) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(11, 6, padding), nn.Embedding(40, 6)
        self.out, self.last = nn.Linear(6, 4), last

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1]).clamp(max=self.last)
        return self.out(torch.tanh(self.tokens(ids) + self.positions(places)))


def judged(left: nn.Module, right: nn.Module, inputs: str) -> Verdict:
    torch.manual_seed(0)
    described = Described((parse(inputs),))
    channels = Channels({}, FIRST)
    sides = (ModuleSubject(side, {}, channels) for side in (left, right))
    return judge(*sides, Request(described, seeds=(0,), steps=0))


def test_a_mask_that_features_share_is_another_dropout():
    verdict = judged(Dropped(()), Dropped((2,)), "x=float64[3,4,5]")
    assert verdict.verdict is Answer.part
    assert verdict.first is not None
    assert verdict.first.part is Part.training
    assert verdict.cause is not None
    assert verdict.cause.name == "dropout shape"
    assert "[3, 4, 6] numbers in" in verdict.cause.remedy
    assert "[3, 4] numbers in" in verdict.cause.remedy


def test_a_mask_that_samples_share_is_the_same_and_told():
    verdict = judged(Dropped(()), Dropped((0,)), "x=float64[3,4,5]")
    assert verdict.verdict is Answer.same
    assert any("a mask that samples or heads share" in note for note in verdict.notes)


def test_masks_of_one_size_need_no_note():
    verdict = judged(Dropped((2,)), Dropped((2,)), "x=float64[3,4,5]")
    assert verdict.verdict is Answer.same
    assert verdict.notes == []


def test_a_difference_that_longer_inputs_show_has_a_place_a_cause_and_a_marked_layer():
    verdict = judged(Positions(39), Positions(9), "ids=int32[2,7] 0..11")
    assert verdict.verdict is Answer.part
    assert "the difference shows with longer" in verdict.notes
    assert verdict.cause is not None
    assert (verdict.cause.name, verdict.cause.confirmed) == ("clipping bound", True)
    row = find_parting(verdict)
    assert row is not None
    assert verdict.layers[row].left == "positions"
    assert (verdict.layers[row].forward or 0.0) > 1e-3  # not that of the inputs that were given


def test_positions_that_end_behind_the_longest_input_are_the_same():
    verdict = judged(Positions(39), Positions(30), "ids=int32[2,7] 0..11")
    assert verdict.verdict is Answer.same
    assert "longer" in verdict.checked["shapes"]


@pytest.mark.parametrize("sides", [(0, None), (None, 0)])
def test_a_row_that_one_side_keeps_from_learning_is_told_though_no_input_has_it(sides):
    verdict = judged(*(Positions(39, padding) for padding in sides), "ids=int32[2,7] 1..11")
    side, row = ("left", "right")[sides.index(0)], "row 0 of tokens.weight"
    assert verdict.verdict is Answer.same
    assert any(note.startswith(f"{side} gives {row} no gradient") for note in verdict.notes)
    verdict = judged(Positions(39, 0), Positions(39, 0), "ids=int32[2,7] 1..11")
    assert verdict.notes == []


def test_a_row_that_one_side_keeps_from_learning_is_the_cause_where_an_input_has_it():
    verdict = judged(Positions(39, 0), Positions(39), "ids=int32[2,7] 0..11")
    assert verdict.cause is not None
    assert (verdict.first.part, verdict.cause.name) == (Part.gradient, "padding_idx")
    assert "keep 0 out of --inputs; with no padding_idx on the left" in verdict.cause.remedy
