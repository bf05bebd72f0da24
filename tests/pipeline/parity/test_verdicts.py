"""Verdicts of a parity check from differences, noise and random draws, without a framework."""

import numpy as np
import pytest

from pipeline.config.train import Precision
from pipeline.parity.differences import differences
from pipeline.parity.draws import incomparable, other_counts, other_rate
from pipeline.parity.lockstep import Comparison, Quantity
from pipeline.parity.report import verdict
from pipeline.run.recording.step_observer import LayerDraw, Trace
from pipeline.storage.portable_state import PortableState

DROP = LayerDraw("bernoulli", 0.9, 64, "drop")


def comparison(*quantities: Quantity) -> Comparison:
    found = Comparison(("torch", "jax"), Precision.fp64, steps=1)
    found.quantities = {(each.part, each.name): each for each in quantities}
    return found


def test_rates_that_the_other_side_never_uses_are_told_with_their_layers():
    other = LayerDraw("bernoulli", 0.5, 64, "Dropout_0")
    words, value = other_rate((DROP,), (other,))
    assert (words, round(value, 12)) == ("drop (rate 0.1) and Dropout_0 (rate 0.5)", 0.4)
    assert other_rate((DROP,), ()) == ("drop (rate 0.1) and nowhere", pytest.approx(0.1))
    normal = LayerDraw("normal", 0.5, 64, "noise")
    assert other_rate((DROP, normal), (DROP,))[0] == "noise (normal) and nowhere"
    assert other_rate((DROP, other), (other, DROP)) is None


def test_a_difference_is_described_once_for_each_distribution():
    twice = (DROP, LayerDraw("bernoulli", 0.9 + 1e-9, 64, "drop2"))
    assert other_counts({"torch": twice, "jax": (DROP,)}).startswith(
        "without random numbers the two agree, but they do not draw as many: "
        "128 of rate 0.1 (torch), 64 of rate 0.1 (jax)"
    )
    keeps_all = LayerDraw("bernoulli", 1.0, 64, "drop3")
    assert other_counts({"torch": (DROP,), "jax": (DROP, keeps_all)}) == ""


def test_random_numbers_that_cannot_be_constants_leave_no_verdict():
    assert incomparable({"torch": (DROP,), "jax": (DROP,)}, Precision.fp64) == ""
    assert "with train.precision=fp64" in incomparable({"torch": (DROP,)}, Precision.bf16)
    other = LayerDraw("randint", 0.0, 4, "crop")
    assert incomparable({"torch": (), "jax": (other,)}, Precision.fp64) == (
        "jax draws random numbers (randint) in crop, which cannot be made the same on both sides"
    )
    found = comparison(Quantity("loss", "loss", {1: 0.5}))
    found.draws = {"jax": (other,)}
    assert found.parting is None
    assert verdict(found).startswith("no verdict: jax draws random numbers (randint) in crop")


def test_intermediate_results_tell_the_place_and_do_not_judge():
    hidden = Quantity("forward", "pool output", {1: 1.0})
    assert comparison(hidden, Quantity("loss", "loss", {1: 1e-16})).parting is None
    found = comparison(hidden, Quantity("loss", "loss", {1: 1e-3}))
    assert found.parting == (1, hidden)


def test_a_loss_within_noise_above_1e_6_is_never_the_same():
    noisy = Quantity("loss", "loss", {1: 1e-4}, {1: 1e-4})
    assert comparison(noisy).parting is None
    assert verdict(comparison(noisy)).startswith(
        "no verdict: at step 1 the loss differs by 1.0e-04"
    )
    # What is zero up to rounding may be noise alone: the bias before a norm.
    bias = Quantity("update", "a.bias", {1: 1.0}, {1: 1.0})
    assert verdict(comparison(bias, Quantity("loss", "loss", {1: 0.0}))).startswith("the same: ")


def trace(step: int, gradients: dict, **parameters: np.ndarray) -> Trace:
    return Trace(step, PortableState(step, parameters), values=np.ones(2), gradients=gradients)


def test_a_parameter_of_one_side_alone_parts_once_the_loss_depends_on_it():
    one, two = np.ones((2, 2)), np.ones(3)
    ours, theirs = trace(1, {"more": two}, w=one, more=two), trace(1, {}, w=one)
    found = {(each.part, each.name): each.value for each in differences(ours, theirs)}
    assert found["initial weights", "more"] == np.inf
    assert ("update", "more") not in found
    ours = trace(1, {"more": 0 * two}, w=one, more=two)
    assert all(each.value == 0 for each in differences(ours, theirs))


def test_intermediates_in_another_order_or_shape_are_no_difference():
    random = np.random.default_rng(0).normal(size=(4, 3, 3))
    ours, theirs = trace(1, {}), trace(1, {})
    ours.forward = {"a output": random, "positions output": np.ones((1, 5))}
    theirs.forward = {
        "a output": random.transpose(0, 2, 1),
        "positions output": np.ones((4, 5)),
    }
    found = {each.name: each.value for each in differences(ours, theirs) if each.part == "forward"}
    assert found == {"a output": 0.0}
