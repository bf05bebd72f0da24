"""Rounding of two recorded loops is no difference, and ends what can be compared."""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy_loops import compare, compare_logged


def test_bfloat16_weights_are_matched_and_judged_by_its_bar(tmp_path):
    @dataclass
    class Tensor:  # as torch has them: no NumPy type
        array: np.ndarray
        dtype: str = "torch.bfloat16"

        @property
        def shape(self):
            return self.array.shape

        def detach(self):
            return self

        cpu = float = detach

        def numpy(self):
            return (self.array.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)

    weights = {"w": np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)}

    def logged(log, loss=1.0):
        log.start({"w": Tensor(weights["w"])})
        log.step({"w": Tensor(weights["w"])}, loss=loss)

    verdict = compare_logged(tmp_path, logged, lambda log: logged(log, 1.01))
    assert "the same: over 1 steps in bfloat16" in verdict.sentence
    assert verdict.checked["bar"] == 2e-2
    far = compare_logged(tmp_path, logged, lambda log: logged(log, 1.1))
    assert far.first.part == "loss"


def drifting(log, drift, jump=0.0):
    """A loop of SGD whose numbers are rounded otherwise: the difference grows fourfold in each step."""
    random = np.random.default_rng(0)
    weights = random.standard_normal((6, 6))
    signs = random.choice([-1, 1], weights.shape)
    log.start({"w": weights.astype(np.float32)})
    for step in range(1, 11):
        gradient = weights * (1 + drift * 4**step * signs)
        weights = weights - 0.1 * gradient
        loss = 1 + drift * 4**step + (jump if step == 6 else 0)
        log.step(
            {"w": weights.astype(np.float32)},
            loss=np.float32(loss),
            gradients={"w": gradient.astype(np.float32)},
        )


def test_rounding_that_grows_in_float32_is_told_with_its_step(tmp_path):
    verdict = compare_logged(
        tmp_path, lambda log: drifting(log, 0), lambda log: drifting(log, 2e-7)
    )
    assert verdict.exit_code == 0
    # 2e-7 · 4³ = 1.3e-5, 2e-7 · 4⁸ = 1.3e-2
    assert verdict.notes[-2:] == [
        "rounding grows: from step 3 on they differ by more than 1e-05",
        "not compared from step 8 on: rounding has grown to 1e-02",
    ]
    assert verdict.checked["steps"] == 7
    assert "over 7 steps" in verdict.sentence
    # A jump is no growth.
    far = compare_logged(
        tmp_path, lambda log: drifting(log, 0), lambda log: drifting(log, 2e-7, 0.1)
    )
    assert (far.first.part, far.first.step) == ("loss", 6)


def test_a_loop_that_diverges_on_both_sides_is_compared_until_then(tmp_path):
    settings = {"rate": 2.0, "momentum": 0.9}
    with np.errstate(all="ignore"):
        verdict = compare(tmp_path, settings, settings, np.float32, steps=5)
    assert verdict.exit_code == 0
    assert verdict.checked["steps"] == 3
    assert (
        "not compared from step 4 on: on both sides, numbers are no longer finite" in verdict.notes
    )


def test_updates_of_two_optimizers_part_without_gradients_too(tmp_path):
    verdict = compare(tmp_path, {}, {"rate": 0.05}, records=("loss",))
    assert verdict.first.part == "update"
    assert verdict.cause.name == "learning rate"
    assert "gradients: not compared, since not recorded on the left and the right" in verdict.notes


def test_a_small_part_of_the_updates_is_no_verdict_without_gradients(tmp_path):
    random = np.random.default_rng(0)
    weights = {"w": random.standard_normal((8, 8)), "b": random.standard_normal(8)}
    noise = random.standard_normal(8)

    def logged(log, noise):
        log.start(weights)
        log.step({"w": weights["w"] - 0.1, "b": weights["b"] + noise})

    verdict = compare_logged(
        tmp_path, lambda log: logged(log, noise), lambda log: logged(log, -noise)
    )
    assert verdict.exit_code == 2
    assert "the updates of b differ at step 1" in verdict.reason
    assert "give log.step gradients=" in verdict.reason


@pytest.mark.parametrize("first", [1, 2])
def test_a_small_difference_of_gradients_in_float32_is_no_verdict(tmp_path, first):
    random = np.random.default_rng(0)
    weights = random.standard_normal((6, 6)).astype(np.float32)
    noise = 3e-4 * random.standard_normal((6, 6))

    def logged(log, noise):
        log.start({"w": weights})
        for step in (1, 2):
            gradient = (weights * (1 + noise * (step >= first))).astype(np.float32)
            log.step({"w": weights - step * np.float32(0.1) * weights}, gradients={"w": gradient})

    verdict = compare_logged(tmp_path, lambda log: logged(log, 0), lambda log: logged(log, noise))
    words = f"at step {first}, which may be rounding in float32"
    if first == 1:
        assert verdict.exit_code == 2
        assert verdict.reason.endswith(f"{words}: record in float64 to tell")
    else:
        assert verdict.exit_code == 0
        assert verdict.notes[-1].startswith(
            "not compared from step 2 on: the gradient of w differs"
        )
        assert verdict.notes[-1].endswith(words)


def test_products_in_lower_precision_are_named(tmp_path):
    random = np.random.default_rng(0)
    weights, outputs = random.standard_normal((4, 4)), random.standard_normal((8, 4))

    def logged(log, noise):
        log.start({"w": weights.astype(np.float32)})
        shown = outputs * (1 + noise)
        log.step({"w": weights.astype(np.float32)}, outputs=shown.astype(np.float32))

    noise = 1e-3 * random.standard_normal((8, 4))
    verdict = compare_logged(tmp_path, lambda log: logged(log, 0), lambda log: logged(log, noise))
    assert (verdict.first.part, verdict.cause.name) == ("forward in training", "arithmetic")
    assert "set_float32_matmul_precision('highest')" in verdict.cause.remedy
