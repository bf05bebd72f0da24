"""Differences of two recorded training loops are placed and explained."""

import numpy as np
import numpy_loops
import pytest
from numpy_loops import compare, compare_logged

ADAM = {"optimizer": "adam", "rate": 1e-3}

# Settings of the right loop (or of both), and where, when and why the two part.
PARTED = [
    ({}, {"rate": 0.05}, "update", 1, "learning rate", "multiply the right learning rate by 2"),
    (ADAM, ADAM | {"rate": 2e-3}, "update", 1, "learning rate", "2 times the left ones"),
    ({}, {"decay": 1e-3}, "update", 1, "weight decay", "the right side takes away 0.0001 of the weights"),
    (
        ADAM | {"decay": 0.1, "decayed": numpy_loops.DECAYED},
        ADAM | {"decay": 0.1},
        "update",
        1,
        "weight decay",
        "of scale, unused alone, not of embed.weight",
    ),
    (
        {"decay": 0.1, "frozen": ("unused",)},
        {"decay": 0.1},
        "update",
        1,
        "gradient None against zero",
        "unused: no gradient on the left",
    ),
    ({"momentum": 0.9}, {}, "update", 2, "momentum", "larger by 0.9 on the left"),
    (ADAM, ADAM | {"betas": (0.8, 0.999)}, "update", 2, "beta1", "(0.9, 0.999) (left), (0.8, 0.999)"),
    (ADAM, ADAM | {"betas": (0.9, 0.99)}, "update", 2, "beta2", "(0.9, 0.999) (left), (0.9, 0.99)"),
    (ADAM, ADAM | {"epsilon": 1e-4}, "update", 1, "epsilon of the optimizer", "0.0001 (right)"),
    (ADAM, ADAM | {"has_bias_correction": False}, "update", 1, "bias correction", "right side are 3.162"),
    (
        ADAM | {"epsilon": 1e-4},
        ADAM | {"epsilon": 1e-4, "has_epsilon_inside": True},
        "update",
        1,
        "epsilon inside or outside the root",
        "of the right side's optimizer is inside",
    ),
    ({}, {"keep": 0.1}, "buffers", 1, "momentum of running statistics", "move 9 times as far"),
    ({}, ADAM, "update", 1, "optimizer", "The left updates are proportional to the gradients"),
    ({}, {"rates": (0.1, 0.1, 0.05)}, "update", 3, "learning-rate schedule", "0.5 times"),
    ({}, {"clip": 0.1}, "update", 1, "gradient clipping", "clipped to norm 0.1"),
    (
        {},
        {"clip": 0.1, "is_clipped_when_recorded": True},
        "gradient",
        1,
        "gradient clipping",
        "The right gradients have the norm 0.1",
    ),
    ({}, {"loss_factor": 8.0}, "loss", 1, "sum instead of mean", "The right loss is 8 times"),
    ({}, {"penalty": 1e-3}, "loss", 1, "L2 penalty", "a penalty of 0.001 times"),
    ({}, {"has_softmax": True}, "forward in training", 1, "softmax", "the softmax of the other side's"),
    ({}, {"is_reversed": True}, "batch", 1, "order of samples", "the same 8 samples"),
    ({}, {"image_factor": 2.0}, "batch", 1, "normalisation", "normalised otherwise: right = 2 · left"),
    ({}, {"image_factor": (2.0, 1.0, 0.5)}, "batch", 1, "normalisation", "by channel: right = 2 · left"),
    ({}, {"output_factor": 3.0}, "forward in training", 1, "scale of the outputs", "3 times the left ones"),
    ({"loss_factor": 3.0}, {}, "loss", 1, "scale of the loss", "The left loss is 3 times"),
    ({}, {"gradient_factor": 4.0}, "gradient", 1, "sum instead of mean", "The right gradients are 4 times"),
    ({"gradient_factor": 1.3}, {}, "gradient", 1, "scale of the gradients", "The left gradients are 1.3"),
    ({}, {"frozen": ("embed.bias",)}, "gradient", 1, "missing gradient", "no gradient of embed.bias"),
    (
        {"clip_value": 0.005, "is_clipped_when_recorded": True},
        {},
        "gradient",
        1,
        "gradient clipping",
        "The left gradients are clipped to ±0.005 element by element",
    ),
    ({}, {"rate": 1.0}, "update", 1, "learning rate", "multiply the right learning rate by 0.1"),
    (
        {"is_rate_recorded": True},
        {"is_rate_recorded": True, "rate": 0.19},
        "update",
        1,
        "learning rate",
        "is 0.1 on the left, 0.19 on the right",
    ),
    (
        {"momentum": 0.9},
        {"momentum": 0.9, "is_nesterov": True},
        "update",
        1,
        "Nesterov's momentum",
        "right side are 1.9 times",
    ),
    (
        ADAM | {"decay": 0.1},
        {"optimizer": "adam", "rate": 2e-3, "decay": 0.3},
        "update",
        1,
        "learning rate and weight decay",
        "Left: learning rate 0.001, weight decay 0.1; right: 0.002, 0.3",
    ),
    (
        ADAM,
        ADAM | {"decay": 0.01, "is_decay_in_gradient": True},
        "update",
        1,
        "decay in the gradient",
        "The right optimizer adds about",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("left", "right", "part", "step", "cause", "words"), PARTED, ids=lambda v: str(v)[:30]
)
def test_a_difference_of_two_loops_is_placed_and_explained(
    tmp_path, left, right, part, step, cause, words
):
    for dtype in (np.float64, np.float32):
        verdict = compare(tmp_path, left, right, dtype, steps=3)
        assert verdict.exit_code == 1
        assert (verdict.first.part, verdict.first.step) == (part, step)
        assert verdict.sentence.startswith(f"they part at step {step}: {part}: ")
        assert verdict.cause.name == cause
        assert words in verdict.cause.remedy


def test_clipping_that_one_side_records_and_both_do_is_no_difference(tmp_path):
    verdict = compare(tmp_path, {"clip": 0.1}, {"clip": 0.1, "is_clipped_when_recorded": True})
    assert verdict.exit_code == 0
    assert "recorded at different places, such as before and after clipping" in verdict.notes[-1]


def test_a_biased_running_variance_is_told_from_an_unbiased_one(tmp_path):
    random = np.random.default_rng(0)
    weights, variance = random.standard_normal((4, 4)), np.ones(6)
    batch = random.random(6) + 0.5

    def logged(log, factor):
        log.start({"w": weights, "var": variance})
        after = {"w": weights - 0.1, "var": 0.9 * variance + 0.1 * batch * factor}
        log.step(after, gradients={"w": np.ones((4, 4))})

    verdict = compare_logged(
        tmp_path, lambda log: logged(log, 32 / 31), lambda log: logged(log, 1.0)
    )
    assert (verdict.first.part, verdict.first.left) == ("buffers", "var")
    assert verdict.cause.name == "biased variance"
    assert "The variance of the right side is over about n = 32 elements" in verdict.cause.remedy
