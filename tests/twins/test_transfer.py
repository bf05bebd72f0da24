"""A run that changes its backend halfway continues as if uninterrupted.

That every state moves bit for bit is tested in test_round_trip.py.
"""

import numpy as np
import pytest
from asserts import assert_identical, assert_rows_close
from made_runs import OTHER
from short_runs import EPOCH, EVERYTHING, FP64, MLP, lines

import lightning_impl.backend as torch_backend
from lightning_impl.checkpoints import read_checkpoint
from lightning_impl.transfer import export_checkpoint, import_checkpoint
from pipeline.devices.world import ALONE
from pipeline.errors import UserError
from pipeline.run.transfer_worker import experiment_of
from pipeline.storage.checkpoints import checkpoint_of_step
from pipeline.storage.portable_file import PortableCheckpoint
from pipeline.storage.run_folder import CHECKPOINTS, RunFolder

CASES = [
    pytest.param(
        f"{EVERYTHING} train.eval_every=10steps", [12, 15], 30, id="averages, clipping, parts"
    ),
    pytest.param(
        f"{MLP} optimizer=sgd optimizer.lr=0.2 schedule=plateau schedule.patience=0 "
        "train.label_smoothing=0.1",
        [15],
        25,
        id="momentum, plateau",
        marks=pytest.mark.slow,
    ),
    # The best checkpoint lies before the change, and is tested after it.
    pytest.param(
        "model=linear optimizer=rmsprop optimizer.lr=1e-9 schedule=constant",
        [13],
        5,
        id="the best at first",
        marks=pytest.mark.slow,
    ),
]


@pytest.mark.parametrize("backend", ["torch", "jax"])
@pytest.mark.parametrize(("case", "stops", "best"), CASES)
def test_half_on_each_backend_equals_the_uninterrupted_run(
    train, tmp_path, backend, case, stops, best
):
    overrides, other = f"{FP64} {case}", OTHER[backend]
    assert train("whole", backend, overrides) == 0
    whole = RunFolder(tmp_path / "whole").result
    for step in stops:
        first, second = tmp_path / f"{step}-first", tmp_path / f"{step}-second"
        assert train(first.name, backend, f"{overrides} train.stop_after={step}") == 130
        before = (first / "run.json").read_text(), sorted((first / CHECKPOINTS).iterdir())
        assert train(second.name, other, f"{overrides} resume={first}") == 0
        assert_rows_close(lines(second), lines(tmp_path / "whole"))
        result = RunFolder(second).result
        assert result.backend == other
        assert result.resumed_from == str(checkpoint_of_step(first, step).path)
        assert (whole.steps, whole.best.step) == (30, best)
        assert (result.steps, result.best.step) == (30, best)
        for key in ("parameters", "init_digest", "data_digest"):
            assert getattr(result, key) == getattr(whole, key)
        after = (first / "run.json").read_text(), sorted((first / CHECKPOINTS).iterdir())
        assert after == before, "the run that was gone on from is left as it was"
    assert [12 % EPOCH, 13 % EPOCH, 15 % EPOCH] == [0, 1, 3], "at an epoch boundary, and inside one"


# Evaluations are every five steps and at the end, epochs have six.
def test_an_imported_portable_checkpoint_equals_what_lightning_saves(train, tmp_path):
    for step in (3, 5, 6, 12, 15, 17, 20, 30):
        resume = f"resume={tmp_path / 'first'}" if step > 3 else ""
        stop = f"train.stop_after={step}" if step < 30 else ""
        train("first", "torch", f"{FP64} {EVERYTHING} {resume} {stop}")
        checkpoint = checkpoint_of_step(tmp_path / "first", step)
        experiment = experiment_of(tmp_path / "first")
        device = torch_backend.prepare(experiment.config, ALONE)
        module = torch_backend.build(experiment, device)
        ours = read_checkpoint(checkpoint, module)
        state, memory = export_checkpoint(checkpoint, module)
        portable = PortableCheckpoint(state, memory, {"source": "made"})
        theirs = import_checkpoint(
            portable, experiment, device, torch_backend.build(experiment, device)
        )
        for content in (ours, theirs):
            del content["callbacks"]  # of each run's own
            content["loops"] = content["loops"]["fit_loop"]
            for group in content["optimizer_states"][0]["param_groups"]:
                del group["lr"]  # of the last update; set anew before the next
        assert_identical(ours, theirs, f"step {step}")


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_either_backend_evaluates_the_checkpoints_of_both(train, tmp_path, backend):
    first = tmp_path / "first"
    assert train("first", backend, f"{FP64} {EVERYTHING}") == 0
    result = RunFolder(first).result
    last = checkpoint_of_step(first, 30).path
    for name, checkpoint in {"best": first, "last": last}.items():
        for tester in ("torch", "jax"):
            chosen = f"mode=test checkpoint={checkpoint}"
            assert train(f"{name}-{tester}", tester, f"{FP64} {EVERYTHING} {chosen}") == 0
        ours, theirs = (RunFolder(tmp_path / f"{name}-{tester}").result for tester in OTHER)
        for key, value in ours.test.items():
            assert abs(theirs.test[key] - value) <= 1e-10 * abs(value)
        left = tmp_path / f"{name}-{OTHER[backend]}"
        assert not [path for path in left.iterdir() if path.is_dir()], "no checkpoint is copied"
        if name == "best":
            assert theirs.test.keys() == result.test.keys()
            assert ours.test == result.test or theirs.test == result.test


def test_a_broken_checkpoint_is_reported_and_the_one_before_it_is_used(train, tmp_path, capfd):
    backend = "torch"
    assert train("whole", backend, f"{FP64} {EVERYTHING}") == 0
    assert train("first", backend, f"{FP64} {EVERYTHING} train.stop_after=17") == 130
    newest = checkpoint_of_step(tmp_path / "first", 17).path
    files = [newest] if newest.is_file() else [file for file in newest.rglob("*") if file.is_file()]
    largest = max(files, key=lambda file: file.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    moved = f"{FP64} {EVERYTHING} resume={tmp_path / 'first'}"
    assert train("second", OTHER[backend], moved) == 0
    assert f"{newest} is broken" in capfd.readouterr().err
    assert_rows_close(lines(tmp_path / "second"), lines(tmp_path / "whole"))


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_checkpoint_of_another_model_is_refused_with_parameter_names(train, tmp_path, backend):
    assert train("first", backend, f"{FP64} {MLP} train.stop_after=5") == 130
    other = f"model=mlp model.hidden=[8,4] resume={tmp_path / 'first'}"
    with pytest.raises(UserError) as caught:
        train("second", OTHER[backend], f"{FP64} {other}")
    for part in (
        str(checkpoint_of_step(tmp_path / "first", 5).path),
        "layers.2.weight is missing",
        "layers.0.weight is [16, 64] where the model has [8, 64]",
    ):
        assert part in str(caught.value)
    assert RunFolder(tmp_path / "second").result.status == "failed"


def test_a_run_is_not_resumed_into_the_folder_of_another(train, tmp_path):
    assert train("first", "torch", f"{FP64} {MLP} train.stop_after=5") == 130
    before = (tmp_path / "first" / "run.json").read_text()
    assert train("second", "jax", f"{FP64} {MLP} train.stop_after=5 seed=1") == 130
    for name in ("first", "second"):
        with pytest.raises(UserError, match=f"{name} holds a run already"):
            train(name, "jax", f"{FP64} {MLP} resume={tmp_path / 'first'}")
    assert (tmp_path / "first" / "run.json").read_text() == before


def test_a_run_can_be_resumed_in_another_precision_on_either_backend(train, tmp_path):
    one, other = (f"{FP64} {MLP} train.precision={precision}" for precision in ("fp64", "fp32"))
    found = {}
    for first in OTHER:
        assert train(first, first, f"{one} train.stop_after=9") == 130
        moved = f"{first}-moved"
        assert train(moved, OTHER[first], f"{other} resume={tmp_path / first}") == 0
        assert train(first, first, f"{other} resume={tmp_path / first}") == 0
        for name in (first, moved):
            found[name] = lines(tmp_path / name)[-3]["train/loss"]
    np.testing.assert_allclose([*found.values()], found["torch"], rtol=1e-4)
