"""Weights, batches and outputs of two recorded loops are matched in whatever layout."""

import numpy as np
import numpy_loops
import pytest
from numpy_loops import compare, compare_logged

from pipeline.verify.recordings.comparison import compare_recordings

ADAM = {"optimizer": "adam", "rate": 1e-3}


@pytest.mark.parametrize("settings", [{}, ADAM, {"momentum": 0.9, "decay": 1e-2}])
@pytest.mark.parametrize(("dtype", "most"), [(np.float64, 1e-13), (np.float32, 1e-5)])
def test_two_layouts_of_the_same_loop_are_the_same(tmp_path, settings, dtype, most):
    verdict = compare(tmp_path, settings, settings, dtype)
    assert verdict.sentence.startswith(f"the same: over 4 steps in {np.dtype(dtype).name} nothing")
    assert max(verdict.differences.values()) < most
    assert set(verdict.differences) == {
        "weights", "batch", "forward in training", "loss", "buffers", "gradient", "update"
    }  # fmt: skip
    assert verdict.unmatched == {"left": [], "right": []}
    rows = {(row["left"], row["right"]) for row in verdict.alignment}
    parts = ("query", "key", "value")
    assert rows == {
        ("embed.weight", "embed.kernel"), ("embed.bias", "embed.bias"), ("scale", "norm.scale"),
        *(
            (f"qkv.{ours}[{6 * part}:{6 * part + 6}]", f"attention.{name}.{theirs}")
            for part, name in enumerate(parts)
            for ours, theirs in (("weight", "kernel"), ("bias", "bias"))
        ),
        ("head.weight", "head.kernel"), ("head.bias", "head.bias"), ("unused", "rest.0"),
        ("mean", "statistics.running"),
    }  # fmt: skip


def test_other_weights_at_the_start_are_the_verdict_by_both_names(tmp_path):
    head = numpy_loops.make_weights(seed=1)["head.weight"]
    verdict = compare(tmp_path, {}, {"start": {"head.weight": head}})
    assert verdict.sentence.startswith(
        "they part: weights: head.weight (left) / head.kernel (right), by "
    )
    assert verdict.reason.endswith("1 of 9 arrays differ before the first step")
    # Nothing else is lost by it.
    assert len(verdict.alignment) == 13


def test_a_weight_that_one_side_alone_trains_is_told(tmp_path):
    random = np.random.default_rng(0)
    weights = {"w": random.standard_normal((4, 4)), "b": random.standard_normal(4)}
    extra = {"extra": random.standard_normal(3)}

    def logged(log, arrays):
        log.start(arrays)
        log.step({name: array * 0.9 for name, array in arrays.items()})

    verdict = compare_logged(
        tmp_path, lambda log: logged(log, weights), lambda log: logged(log, weights | extra)
    )
    assert (verdict.first.part, verdict.first.left, verdict.first.right) == (
        "weights",
        "nothing",
        "extra",
    )
    assert [one.name for one in verdict.unmatched["right"]] == ["extra"]


def test_many_layers_that_start_alike_are_told_apart_by_their_gradients(tmp_path):
    random = np.random.default_rng(0)
    start = random.standard_normal((6, 6))
    gradients = [random.standard_normal((6, 6)) for _ in range(3)]

    def logged(log, start, gradients):
        log.start([start for _ in gradients])
        log.step([start - g for g in gradients], gradients=gradients)

    verdict = compare_logged(
        tmp_path,
        lambda log: logged(log, start, gradients),
        lambda log: logged(log, start.T, [gradients[at].T for at in (2, 0, 1)]),
    )
    assert verdict.exit_code == 0
    assert {(row["left"], row["right"]) for row in verdict.alignment} == {
        ("0", "1"),
        ("1", "2"),
        ("2", "0"),
    }


@pytest.mark.parametrize("is_left_stacked", [False, True])
@pytest.mark.parametrize("have_same_gradients", [True, False])
def test_layers_stacked_for_a_scan_match_separate_ones(
    tmp_path, is_left_stacked, have_same_gradients
):
    random = np.random.default_rng(0)
    layers = [
        {
            "weight": random.standard_normal((5, 4)).astype(np.float32),
            "bias": np.zeros(5, np.float32),
            "scale": np.ones(4),
        }
        for _ in range(3)
    ]

    def draw(seed):
        random = np.random.default_rng(seed)
        return [{n: random.standard_normal(a.shape) for n, a in one.items()} for one in layers]

    def stacked(arrays):
        kernels = np.stack([one["weight"].T for one in arrays])
        rest = {name: np.stack([one[name] for one in arrays]) for name in ("bias", "scale")}
        dense = {"kernel": kernels, "bias": rest["bias"]}
        return {"scan": {"norm": {"gain": rest["scale"]}, "dense": dense}}

    def logged(log, lay_out, gradients):
        pairs = zip(layers, gradients, strict=True)
        after = [{name: array - g[name] for name, array in one.items()} for one, g in pairs]
        log.start(lay_out(layers))
        log.step(lay_out(after), gradients=lay_out(gradients))

    forms = (stacked, list) if is_left_stacked else (list, stacked)
    verdict = compare_logged(
        tmp_path,
        lambda log: logged(log, forms[0], draw(1)),
        lambda log: logged(log, forms[1], draw(1 if have_same_gradients else 2)),
    )
    assert verdict.exit_code == 1 - have_same_gradients, verdict.sentence
    sides = ("right", "left") if is_left_stacked else ("left", "right")
    assert {tuple(row[side] for side in sides) for row in verdict.alignment} == {
        (f"{layer}.{name}", f"scan.{other}[{layer}]")
        for layer in range(3)
        for name, other in (
            ("weight", "dense.kernel"),
            ("bias", "dense.bias"),
            ("scale", "norm.gain"),
        )
    }


def test_a_fused_projection_with_equal_values_matches_its_parts(tmp_path):
    random = np.random.default_rng(0)
    fused = random.standard_normal((24, 16)).round(3)
    assert len(np.unique(fused)) < 0.96 * fused.size
    parts = {name: rows.T for name, rows in zip("qkv", np.split(fused, 3), strict=True)}

    def logged(log, weights):
        log.start(weights)
        log.step(weights, loss=1.0)

    verdict = compare_logged(
        tmp_path, lambda log: logged(log, {"qkv": fused}), lambda log: logged(log, parts)
    )
    assert verdict.exit_code == 0, verdict.sentence
    rows = {(row["left"], row["right"]) for row in verdict.alignment}
    assert rows == {("qkv[0:8]", "q"), ("qkv[8:16]", "k"), ("qkv[16:24]", "v")}


def test_recordings_in_which_no_weights_match_have_no_verdict(tmp_path):
    def logged(log, shape):
        log.start({"w": np.ones(shape)})
        log.step({"w": np.ones(shape)}, loss=1.0)

    verdict = compare_logged(
        tmp_path, lambda log: logged(log, (2, 3)), lambda log: logged(log, (2, 4))
    )
    assert (verdict.exit_code, verdict.reason) == (2, "no weights of the two sides belong together")


def test_tied_and_idle_weights_of_one_side_are_set_aside(tmp_path):
    random = np.random.default_rng(0)
    table, idle = random.standard_normal((6, 4)), random.standard_normal(3)

    def logged(log, more):
        log.start({"embed": table} | more)
        log.step(
            {"embed": 0.9 * table} | {n: 0.9 * a if n == "head" else a for n, a in more.items()}
        )

    verdict = compare_logged(
        tmp_path,
        lambda log: logged(log, {"head": table, "positions": idle}),
        lambda log: logged(log, {}),
    )
    assert verdict.exit_code == 0, verdict.sentence
    assert "left: the same weights by another name: head" in verdict.notes
    assert "left: left out, since it never changes: positions" in verdict.notes


def test_batches_and_outputs_are_matched_by_their_values_whatever_their_form(tmp_path):
    random = np.random.default_rng(0)
    weights = {"w": random.standard_normal((3, 3))}
    labels, image = random.integers(0, 5, 6), random.random((6, 2, 4, 4))

    def logged(log, batch, outputs):
        log.start(weights)
        log.step(weights, batch=batch, outputs=outputs)

    def left(log):
        logged(log, (image, labels), image[:, 0])

    verdict = compare_logged(
        tmp_path,
        left,
        lambda log: logged(
            log,
            {"labels": np.eye(5)[labels], "image": image.transpose(0, 2, 3, 1), "mask": np.ones(6)},
            image[:, 0].reshape(6, 16),
        ),
    )
    assert verdict.exit_code == 0, verdict.sentence
    assert "right alone has in its batch: mask: not compared" in verdict.notes
    verdict = compare_logged(
        tmp_path, left, lambda log: logged(log, (image, labels), image[:, 0, 0])
    )
    assert verdict.first.part == "forward in training"
    assert verdict.reason.endswith(
        "the outputs have other shapes: [6, 4, 4] (left), [6, 4] (right)"
    )


def test_complex_weights_are_compared_by_both_parts(tmp_path):
    random = np.random.default_rng(0)
    weights = random.standard_normal((3, 3)) + 1j * random.standard_normal((3, 3))

    def logged(log, factor):
        log.start({"w": weights})
        log.step({"w": weights * factor})

    verdict = compare_logged(
        tmp_path, lambda log: logged(log, 0.9), lambda log: logged(log, 0.9 + 0.01j)
    )
    assert (verdict.first.part, verdict.first.left) == ("update", "w")
    assert compare_recordings(tmp_path / "left.npz", tmp_path / "left.npz").exit_code == 0
