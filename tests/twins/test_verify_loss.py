"""The user's own loss on both sides: compared, differentiated, and searched for the cause of a difference."""

from functools import partial

import numpy as np
import pytest
import torch
from flax import linen
from jax import numpy as jnp

import flax_impl.verify
import lightning_impl.verify
from pipeline.errors import UserError
from pipeline.verify.command import make_inputs
from pipeline.verify.judge import Request, judge
from pipeline.verify.sides.loss import Loss
from pipeline.verify.sides.outputs import LOSS

INPUTS = ("x=float32[6,5]", "label=int32[6] 0..4", "weight=float32[6]")


class TorchNet(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 4))

    def forward(self, x):
        return {"scores": super().forward(x)}


class FlaxNet(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(4)(linen.tanh(linen.Dense(7)(x)))


def in_torch(output, label, weight, smoothing=0.0):
    loss = torch.nn.functional.cross_entropy(
        output["scores"], label, reduction="none", label_smoothing=smoothing
    )
    return (loss * weight).mean()


def in_jax(output, inputs):
    chances = linen.log_softmax(output)
    picked = chances[jnp.arange(len(output)), inputs["label"]]
    return -(picked * inputs["weight"]).mean()


def judged(left, right, **settings):
    inputs = make_inputs(INPUTS)
    drawn = inputs.draw(0)[0]
    sides = (
        lightning_impl.verify.open_subject(
            TorchNet(), drawn, {}, {}, Loss("--left-loss", "left", left)
        ),
        flax_impl.verify.open_subject(
            FlaxNet(), drawn, {}, {}, Loss("--right-loss", "right", right)
        ),
    )
    return judge(*sides, Request(inputs, **settings)), sides


pytestmark = pytest.mark.usefixtures("verify_workers")


def test_the_loss_of_both_sides_is_compared_and_takes_the_place_of_the_projection():
    verdict, sides = judged(in_torch, in_jax, steps=2, seeds=(0,))
    assert verdict.verdict == "same"
    assert verdict.sentence.startswith("the same: outputs, loss, gradients and buffers")
    assert set(verdict.differences) == {
        "forward", "forward in training", "loss", "gradient", "update",
    }  # fmt: skip
    assert max(verdict.differences.values()) < 1e-12
    inputs = make_inputs(INPUTS).draw(0)[0]
    one = sides[0].run(inputs, True, {LOSS: np.ones(())})
    other = sides[1].run(inputs, True, {LOSS: np.ones(())})
    assert one.loss == one.outputs[LOSS]
    # The gradient is the loss's: its sum over the classes is zero.
    bias = one.gradients["2.bias"]
    assert np.abs(bias).max() > 1e-3
    assert abs(bias.sum()) < 1e-15
    assert other.gradients["Dense_0.bias"].sum() == pytest.approx(0, abs=1e-15)


def test_a_loss_that_differs_is_named_after_the_outputs_have_agreed():
    verdict, _ = judged(
        in_torch, lambda output, inputs: 2 * in_jax(output, inputs), steps=0, seeds=(0,)
    )
    assert verdict.verdict == "part"
    assert verdict.first.part == "loss"
    assert verdict.first.difference == pytest.approx(0.5)
    assert all(name.strip() != "before" for name in (verdict.first.left, verdict.first.right))
    assert "the outputs are the same, the loss made of them is not" in verdict.sentence
    assert verdict.differences["forward"] < 1e-12


def test_the_operations_of_a_loss_are_searched_for_the_cause():
    verdict, _ = judged(partial(in_torch, smoothing=0.1), in_jax, steps=0, seeds=(0,))
    assert verdict.first.part == "loss"
    assert verdict.cause.confirmed
    assert "smooths labels by 0.1, the other side does not" in verdict.cause.remedy


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (lambda output: output["scores"], "--left-loss=left: it returns an array [6, 4]. Return a scalar"),
        (lambda output: 1.0, "--left-loss=left: it returns float. Return a scalar"),
        (lambda output, label, none: output, "called with the output and label='an array [6]': TypeError: "),
    ],
)  # fmt: skip
def test_what_is_no_loss_is_refused(loss, told):
    with pytest.raises(UserError) as caught:
        judged(loss, in_jax)
    assert told in str(caught.value)


def test_a_model_takes_the_inputs_that_it_names_and_the_loss_the_others():
    _, (left, right) = judged(in_torch, in_jax, steps=0, seeds=(0,))
    assert right.taken == {"x"}
    names = [
        op.settings.get("name", op.name)
        for op in left.trace(make_inputs(INPUTS).draw(0)[0], False).ops
    ]
    assert names.count("input") == 3  # the loss is part of what is recorded
