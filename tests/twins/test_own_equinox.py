"""A user's own model in Equinox trains, resumes and crosses like one in linen."""

import sys

import numpy as np
import pytest
from asserts import assert_rows_close
from short_runs import SELDOM, lines

from pipeline.errors import UserError
from pipeline.run.transfer import export_tested
from pipeline.storage.checkpoints import checkpoints_of
from pipeline.storage.run_folder import RunFolder
from pipeline.user_code import import_attribute

OWN = "model=own model.jax=tests.own_equinox:EquinoxNet"
PAIR = f"{SELDOM} {OWN} model.torch=tests.own_models:TorchNorm"


def test_it_trains_as_its_torch_twin_with_masks_that_are_shared(run):
    options = "model.options={norm:false,rate:0.3} train.randomness=shared"
    torch, jax = run(f"{PAIR} {options} train.accumulate=2 optimizer.weight_decay=0.1")
    assert_rows_close(jax.rows, torch.rows)
    assert len(torch.rows) > 7


def test_frozen_parameters_stay_as_they_are_and_the_others_take_the_steps_of_torch(
    run, train, tmp_path
):
    frozen = f"{PAIR} train.frozen=[norm,hidden.0.*] optimizer.weight_decay=0.1"
    torch, jax = run(frozen)
    assert_rows_close(losses_of(jax.rows), losses_of(torch.rows))
    assert train("other", "jax", f"{frozen} optimizer.lr=0.5") == 0
    first, second = (weights_of(tmp_path / name) for name in ("jax", "other"))
    stays = {name for name in first if np.array_equal(first[name], second[name])}
    assert stays == {"norm.weight", "norm.bias", "hidden.0.weight", "hidden.0.bias"}


def losses_of(rows):
    """Losses of training; those of an evaluation depend on running statistics, which differ."""
    return [{"loss": row["train/loss"]} for row in rows if "train/loss" in row]


def weights_of(run):
    """Parameters of the checkpoint of a run that is tested."""
    [portable] = export_tested(run, "checkpoint")
    return portable.state.parameters


@pytest.mark.slow
def test_with_batch_norm_it_takes_the_steps_of_its_torch_twin(run):
    torch, jax = run(f"{PAIR} train.accumulate=2")
    assert_rows_close(losses_of(torch.rows), losses_of(jax.rows))
    assert len(losses_of(jax.rows)) > 5


@pytest.mark.slow
def test_with_dropout_and_statistics_a_resumed_run_repeats_the_uninterrupted_one(train, tmp_path):
    overrides = f"{SELDOM} {OWN} model.options={{rate:0.3}}"
    assert train("whole", "jax", overrides) == 0
    assert train("halves", "jax", f"{overrides} train.stop_after=13") == 130
    assert train("halves", "jax", f"{overrides} resume={tmp_path / 'halves'}") == 0
    assert lines(tmp_path / "halves") == lines(tmp_path / "whole")
    assert train("still", "jax", overrides.replace("rate:0.3", "rate:0")) == 0
    assert lines(tmp_path / "still") != lines(tmp_path / "whole")


def test_torch_evaluates_its_weights_and_statistics(train, tmp_path):
    pair = f"{PAIR} model.options={{mode:ema}}"
    assert train("made", "jax", pair) == 0
    assert checkpoints_of(tmp_path / "made")
    tested = f"{pair} mode=test checkpoint={tmp_path / 'made'}"
    assert train("there", "torch", tested) == 0
    found, expected = (RunFolder(tmp_path / name).result.test for name in ("there", "made"))
    assert found == pytest.approx(expected, rel=1e-10)


def test_a_run_of_torch_goes_on_in_equinox_with_the_count_of_its_batches(train, tmp_path):
    assert train("whole", "jax", PAIR) == 0
    assert train("torch", "torch", f"{PAIR} train.stop_after=13") == 130
    assert train("crossed", "jax", f"{PAIR} resume={tmp_path / 'torch'}") == 0
    for key in ("train/loss", "val/loss"):
        whole, crossed = (
            [row[key] for row in lines(tmp_path / name) if key in row]
            for name in ("whole", "crossed")
        )
        assert crossed[-1] == pytest.approx(whole[-1], rel=1e-10 if key == "train/loss" else 1e-6)


def test_without_equinox_its_modules_are_refused_with_the_way_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "equinox", None)
    monkeypatch.delitem(sys.modules, "tests.own_equinox", raising=False)
    words = "imports equinox, which is not installed.* Install it, such as by: pip install equinox"
    with pytest.raises(UserError, match=words):
        import_attribute("tests.own_equinox:EquinoxNet", "model.jax")
