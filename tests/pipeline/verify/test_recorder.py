"""Recorder of a training loop, its file, and the command that compares two of them."""

import json
from types import SimpleNamespace

import numpy as np
import numpy_loops
import pytest
from numpy_loops import compare, compare_logged

from pipeline.errors import UserError
from pipeline.verify import record
from pipeline.verify.__main__ import main
from pipeline.verify.recordings.comparison import compare_recordings


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


def test_gradients_are_named_as_the_weights_or_listed_in_their_order(tmp_path):
    weights = {"params": {"w": np.ones((2, 3)), "b": np.ones(3)}}
    gradients = {"w": np.full((2, 3), 2.0), "b": np.full(3, 4.0)}
    for number, given in enumerate((gradients, {"params": gradients}, list(gradients.values()))):
        with record(tmp_path / f"{number}.npz") as log:
            log.start(weights)
            log.step(weights, gradients=given)
        with np.load(tmp_path / f"{number}.npz") as file:
            assert file["step1/gradients/params.b"].tolist() == [4.0, 4.0, 4.0]


def test_a_train_state_is_recorded_without_its_optimizer(tmp_path):
    state = SimpleNamespace(params={"w": np.ones(2), "count": 3}, opt_state={"mu": np.ones(2)})
    with record(tmp_path / "left.npz") as log:
        log.start(state)
        with pytest.raises(UserError, match=r"log\.start was called twice"):
            log.start(state)
    with np.load(tmp_path / "left.npz") as file:
        assert file.files == ["start/weights/params.w", "manifest"]


def test_a_file_of_another_format_or_none_is_refused(tmp_path):
    np.savez(tmp_path / "later.npz", manifest=np.array(json.dumps({"format": 99})))
    with pytest.raises(UserError, match="its format is 99, this version reads 1"):
        compare_recordings(tmp_path / "later.npz", tmp_path / "later.npz")
    with pytest.raises(UserError, match="there is no such file"):
        compare_recordings(tmp_path / "none.npz", tmp_path / "later.npz")


def test_recordings_without_a_common_step_have_no_verdict(tmp_path):
    weights = {"w": np.random.default_rng(0).standard_normal((3, 3))}
    verdict = compare_logged(
        tmp_path, lambda log: log.start(weights), lambda log: log.start(weights)
    )
    assert (verdict.exit_code, verdict.reason) == (2, "the recordings have no step in common")
