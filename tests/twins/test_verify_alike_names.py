"""Names that are alike say what is meant: weights that only another order makes the same are a difference."""

import pytest
import torch
from torch import nn

import lightning_impl.verify
from pipeline.verify.inputs import Described, parse
from pipeline.verify.judge import Request, judge
from pipeline.verify.names.names_file import read_names
from pipeline.verify.verdict import Verdict

WIDTH, HEADS = 8, 2


pytestmark = pytest.mark.usefixtures("verify_workers")


class Attention(nn.Module):
    """Attention with these names for queries, keys, values and result."""

    def __init__(self, names: str, exchanged: bool = False, heads_last: bool = False) -> None:
        super().__init__()
        self.names, self.exchanged, self.heads_last = names.split(), exchanged, heads_last
        for name in self.names:
            setattr(self, name, nn.Linear(WIDTH, WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (self.split(getattr(self, name)(x)) for name in self.names[:3])
        if self.exchanged:
            q, k = k, q
        weights = (q @ k.transpose(-1, -2) / 2).softmax(-1)
        out = (weights @ v).movedim(1, -1 if self.heads_last else 2)
        return getattr(self, self.names[3])(out.flatten(2))

    def split(self, x: torch.Tensor) -> torch.Tensor:
        sizes = (-1, HEADS) if self.heads_last else (HEADS, -1)
        return x.unflatten(-1, sizes).movedim(-1 if self.heads_last else 2, 1)


class Patches(nn.Module):
    """Patches of an image, cut with channels or rows first."""

    def __init__(self, order: str) -> None:
        super().__init__()
        self.order, self.embed, self.head = order, nn.Linear(12, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        cut = x.unflatten(2, (2, 2)).unflatten(4, (2, 2))  # sample, channel, row, y, column, x
        axes = {"channels first": (0, 2, 4, 1, 3, 5), "channels last": (0, 2, 4, 3, 5, 1)}
        return self.head(self.embed(cut.permute(axes[self.order]).flatten(3)).tanh())


class Sum(nn.Module):
    """A sum of three summands, in whatever order."""

    def __init__(self, *order: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.order, self.first, self.last = order, nn.Linear(4, 5, bias=False), nn.Linear(5, 2)
        for name in order:
            self.register_parameter(f"{name}_bias", nn.Parameter(torch.randn(5)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for name in self.order:
            x = x + getattr(self, f"{name}_bias")
        return self.last(x.tanh())


def verdict_of(left: nn.Module, right: nn.Module, inputs: str, **settings: object) -> Verdict:
    given = Described((parse(inputs),))
    drawn, _ = given.draw(0)
    sides = (lightning_impl.verify.open_subject(one, drawn, {}, {}) for one in (left, right))
    return judge(*sides, Request(given, steps=0, **settings))


PROJECTIONS, LONG, NOTHING = "q_proj k_proj v_proj out_proj", "query key value out", "p3 p1 p2 p0"
TOKENS, IMAGES = "x=float32[2,5,8]", "x=float32[2,3,4,4]"


@pytest.mark.parametrize("names", [PROJECTIONS, LONG, "to_q to_k to_v to_out"])
def test_queries_and_keys_exchanged_under_names_alike_are_a_difference(names):
    verdict = verdict_of(Attention(PROJECTIONS), Attention(names, exchanged=True), TOKENS)
    assert verdict.verdict == "part", verdict.reason
    query = names.split()[0]
    assert (verdict.first.part, verdict.first.left, verdict.first.right) == (
        "weights",
        "k_proj",
        query,
    )
    assert verdict.cause.name == "exchanged weights"
    assert f"{query} does the work of k_proj" in verdict.cause.remedy


def test_names_that_say_nothing_leave_the_order_to_the_values():
    verdict = verdict_of(Attention(PROJECTIONS), Attention(NOTHING, exchanged=True), TOKENS)
    assert verdict.verdict == "same", verdict.sentence


def test_the_names_that_a_user_gives_overrule_those_that_are_alike(tmp_path):
    file = tmp_path / "names.yaml"
    file.write_text("rows: [{left: q_proj.weight, right: key.weight}]\n")
    sides = Attention(PROJECTIONS), Attention(LONG, exchanged=True)
    verdict = verdict_of(*sides, TOKENS, names=read_names(file, "--names"))
    assert verdict.verdict == "same", verdict.sentence


def test_heads_in_another_order_under_names_alike_are_a_difference():
    verdict = verdict_of(Attention(PROJECTIONS), Attention(LONG, heads_last=True), TOKENS)
    assert verdict.verdict == "part", verdict.reason
    assert (verdict.cause.name, verdict.cause.confirmed) == ("head order", True)
    assert "one reshapes to [heads, size of a head]" in verdict.cause.remedy


def test_patches_cut_in_another_order_are_a_layout():
    verdict = verdict_of(Patches("channels first"), Patches("channels last"), IMAGES)
    assert verdict.verdict == "same", verdict.sentence
    (row,) = (row for row in verdict.alignment if row["left"] == "embed.weight")
    assert row["transform"]


def test_summands_in_another_order_are_the_same():
    verdict = verdict_of(Sum("a", "b", "c"), Sum("c", "a", "b"), "x=float32[6,4]")
    assert verdict.verdict == "same", verdict.sentence


class Convolution(nn.Module):
    """A convolution with this name, whose kernel is turned round or not."""

    def __init__(self, name: str, is_flipped: bool) -> None:
        super().__init__()
        self.name, self.is_flipped, self.head = name, is_flipped, nn.Linear(4, 2)
        setattr(self, name, nn.Conv2d(3, 4, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        conv = getattr(self, self.name)
        weight = conv.weight.flip(2, 3) if self.is_flipped else conv.weight
        x = nn.functional.conv2d(x, weight, conv.bias)
        return self.head(x.tanh().mean((2, 3)))


@pytest.mark.parametrize(("name", "answer"), [("conv_in", "part"), ("p7", "same")])
def test_a_kernel_that_is_turned_round_under_a_name_alike_is_a_difference(name, answer):
    verdict = verdict_of(Convolution("conv", False), Convolution(name, True), IMAGES)
    assert verdict.verdict == answer, verdict.sentence
    if answer == "part":
        assert (verdict.first.part, verdict.first.right) == ("weights", name)
        assert (verdict.cause.name, verdict.cause.confirmed) == ("kernel flipped", True)
