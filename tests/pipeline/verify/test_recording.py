"""Recordings of training loops, and their comparison: NumPy loops of one model in two layouts."""

import json
from dataclasses import dataclass

import numpy as np
import numpy_loops
import pytest

from pipeline.errors import UserError
from pipeline.verify import record
from pipeline.verify.__main__ import main
from pipeline.verify.recordings.comparison import compare_recordings

ADAM = {"optimizer": "adam", "rate": 1e-3}


def compare(folder, left=None, right=None, dtype=np.float64, steps=4, **given):
    """Train and record the loop in both ways, and compare the recordings."""
    files = folder / "left.npz", folder / "right.npz"
    for file, settings in zip(files, (left, right), strict=True):
        with record(file) as log:
            numpy_loops.train(
                log,
                numpy_loops.Settings(**(settings or {})),
                steps=steps,
                is_right=file == files[1],
                dtype=dtype,
                **given,
            )
    return compare_recordings(*files)


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
    ({"decay": 0.1, "drops_last": True}, {"decay": 0.1}, "update", 1, "gradient None against zero", "unused"),
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
    for file, factor in (("left", 32 / 31), ("right", 1.0)):
        with record(tmp_path / f"{file}.npz") as log:
            log.start({"w": weights, "var": variance})
            after = {"w": weights - 0.1, "var": 0.9 * variance + 0.1 * batch * factor}
            log.step(after, gradients={"w": np.ones((4, 4))})
    verdict = compare_recordings(tmp_path / "left.npz", tmp_path / "right.npz")
    assert (verdict.first.part, verdict.first.left) == ("buffers", "var")
    assert verdict.cause.name == "biased variance"
    assert "The variance of the right side is over about n = 32 elements" in verdict.cause.remedy


def test_other_weights_at_the_start_are_the_verdict_by_both_names(tmp_path):
    head = numpy_loops.make_weights(seed=1)["head.weight"]
    verdict = compare(tmp_path, {}, {"start": {"head.weight": head}})
    assert verdict.sentence.startswith(
        "they part: weights: head.weight (left) / head.kernel (right), by "
    )
    assert verdict.reason.endswith("1 of 9 arrays differ before the first step")
    # Nothing else is lost by it.
    assert len(verdict.alignment) == 13


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
    for file, factor in (("left", 1.0), ("right", 1.01), ("far", 1.1)):
        with record(tmp_path / f"{file}.npz") as log:
            log.start({"w": Tensor(weights["w"])})
            log.step({"w": Tensor(weights["w"])}, loss=factor)
    verdict = compare_recordings(tmp_path / "left.npz", tmp_path / "right.npz")
    assert "the same: over 1 steps in bfloat16" in verdict.sentence
    assert verdict.checked["bar"] == 2e-2
    far = compare_recordings(tmp_path / "left.npz", tmp_path / "far.npz")
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
    for file, settings in (("left", (0, 0)), ("right", (2e-7, 0)), ("far", (2e-7, 0.1))):
        with record(tmp_path / f"{file}.npz") as log:
            drifting(log, *settings)
    verdict = compare_recordings(tmp_path / "left.npz", tmp_path / "right.npz")
    assert verdict.exit_code == 0
    # 2e-7 · 4³ = 1.3e-5, 2e-7 · 4⁸ = 1.3e-2
    assert verdict.notes[-2:] == [
        "rounding grows: from step 3 on they differ by more than 1e-05",
        "not compared from step 8 on: rounding has grown to 1e-02",
    ]
    assert verdict.checked["steps"] == 7
    assert "over 7 steps" in verdict.sentence
    # A jump is no growth.
    far = compare_recordings(tmp_path / "left.npz", tmp_path / "far.npz")
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
    files = tmp_path / "left.npz", tmp_path / "right.npz"
    for file, noise in zip(files, (1.0, -1.0), strict=True):
        with record(file) as log:
            random = np.random.default_rng(0)
            weights = {"w": random.standard_normal((8, 8)), "b": random.standard_normal(8)}
            log.start(weights)
            log.step(
                {"w": weights["w"] - 0.1, "b": weights["b"] + noise * random.standard_normal(8)}
            )
    verdict = compare_recordings(*files)
    assert verdict.exit_code == 2
    assert "the updates of b differ at step 1" in verdict.reason
    assert "give log.step gradients=" in verdict.reason


def test_a_weight_that_one_side_alone_trains_is_told(tmp_path):
    files = tmp_path / "left.npz", tmp_path / "right.npz"
    random = np.random.default_rng(0)
    weights = {"w": random.standard_normal((4, 4)), "b": random.standard_normal(4)}
    for file, more in zip(files, ({}, {"extra": random.standard_normal(3)}), strict=True):
        with record(file) as log:
            log.start(weights | more)
            log.step({name: array * 0.9 for name, array in (weights | more).items()})
    verdict = compare_recordings(*files)
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
    for file, order in (("left", (0, 1, 2)), ("right", (2, 0, 1))):
        with record(tmp_path / f"{file}.npz") as log:
            log.start([start.T if file == "right" else start for _ in order])
            found = [gradients[at].T if file == "right" else gradients[at] for at in order]
            after = [(start.T if file == "right" else start) - g for g in found]
            log.step(after, gradients=found)
    verdict = compare_recordings(tmp_path / "left.npz", tmp_path / "right.npz")
    assert verdict.exit_code == 0
    assert {(row["left"], row["right"]) for row in verdict.alignment} == {
        ("0", "1"),
        ("1", "2"),
        ("2", "0"),
    }


def test_layers_stacked_for_a_scan_match_separate_ones(tmp_path):
    random = np.random.default_rng(0)
    layers = [
        {
            "weight": random.standard_normal((5, 4)).astype(np.float32),
            "bias": np.zeros(5, np.float32),
            "scale": np.ones(4),
        }
        for _ in range(3)
    ]
    gradients = [{n: random.standard_normal(a.shape) for n, a in one.items()} for one in layers]

    def stacked(arrays):
        kernels = np.stack([one["weight"].T for one in arrays])
        rest = {name: np.stack([one[name] for one in arrays]) for name in ("bias", "scale")}
        return {
            "scan": {
                "norm": {"gain": rest["scale"]},
                "dense": {"kernel": kernels, "bias": rest["bias"]},
            }
        }

    after = [
        {n: a - g for n, a in one.items() for g in [change[n]]}
        for one, change in zip(layers, gradients, strict=True)
    ]
    for file, lay_out in (("left", list), ("right", stacked)):
        with record(tmp_path / f"{file}.npz") as log:
            log.start(lay_out(layers))
            log.step(lay_out(after), gradients=lay_out(gradients))
    verdict = compare_recordings(tmp_path / "left.npz", tmp_path / "right.npz")
    assert verdict.exit_code == 0, verdict.sentence
    assert {(row["left"], row["right"]) for row in verdict.alignment} == {
        (f"{layer}.{left}", f"scan.{right}[{layer}]")
        for layer in range(3)
        for left, right in (
            ("weight", "dense.kernel"),
            ("bias", "dense.bias"),
            ("scale", "norm.gain"),
        )
    }


def test_the_command_compares_two_recordings_and_writes_the_same_json(tmp_path, capsys):
    compare(tmp_path, {}, {"rate": 0.05})
    files = [str(tmp_path / name) for name in ("left.npz", "right.npz")]
    assert main([*files, "--json", str(tmp_path / "verdict.json")]) == 1
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    assert verdict["schema"] == 1
    assert (verdict["verdict"], verdict["first"]["part"], verdict["cause"]["name"]) == (
        "part", "update", "learning rate"
    )  # fmt: skip
    assert main([files[0], files[0]]) == 0
    assert "the same" in capsys.readouterr().out
    assert main([files[0], "my_models:Net"]) == 1
    assert "left.npz is a recording, my_models:Net is none" in capsys.readouterr().err.replace(
        "\n", " "
    )


def test_what_was_recorded_before_an_exception_is_kept(tmp_path):
    def train_until_it_fails():
        with record(tmp_path / "left.npz") as log:
            numpy_loops.train(log, steps=2)
            raise RuntimeError("diverged")

    with pytest.raises(RuntimeError, match="diverged"):
        train_until_it_fails()
    with record(tmp_path / "right.npz") as log:
        numpy_loops.train(log, steps=3)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["left.npz", "right.npz"]
    verdict = compare_recordings(tmp_path / "left.npz", tmp_path / "right.npz")
    assert verdict.checked["steps"] == 2
    assert "left: the script ended with RuntimeError: diverged" in verdict.notes
    assert "right alone has 1 more step: not compared" in verdict.notes


def test_steps_are_recorded_as_often_and_as_many_as_asked(tmp_path):
    with record(tmp_path / "left.npz", every=3, most=3) as log:
        numpy_loops.train(log, steps=10)
    with np.load(tmp_path / "left.npz") as file:
        steps = json.loads(file["manifest"].item())["steps"]
        assert [step["step"] for step in steps] == [1, 3, 6]
        # Weights that never change are written once.
        assert "start/weights/unused" in file.files
        assert "step1/weights/unused" not in file.files
        assert "step1/weights/head.weight" in file.files


def test_a_file_without_steps_or_start_is_refused(tmp_path):
    with pytest.raises(UserError, match="nothing was recorded"), record(tmp_path / "left.npz"):
        pass
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match=r"before log\.start"), record(tmp_path / "left.npz") as log:
        log.step({"w": np.ones(2)})
    with pytest.raises(UserError, match=r"ends with \.npz"):
        record(tmp_path / "left.npy")
    with pytest.raises(UserError, match="holds no weights"), record(tmp_path / "left.npz") as log:
        log.start({"step": 3})
    (tmp_path / "other.npz").write_text("no archive")
    with pytest.raises(UserError, match="it is no recording"):
        compare_recordings(tmp_path / "other.npz", tmp_path / "other.npz")


def test_gradients_that_do_not_belong_to_the_weights_are_refused(tmp_path):
    weights = {"params": {"w": np.ones((2, 3)), "b": np.ones(3)}}
    with record(tmp_path / "left.npz") as log:
        log.start(weights)
        log.step(weights, gradients={"w": np.ones((2, 3)), "b": np.ones(3)})  # a level less
        with pytest.raises(UserError, match="do not belong to the 2 weights"):
            log.step(weights, gradients={"w": np.ones((3, 2))})
