"""A user's own model in Flax NNX trains, resumes and crosses like one in linen."""

import numpy as np
import pytest
from asserts import assert_rows_close
from short_runs import FP64, lines

from pipeline.storage.checkpoints import checkpoints_of
from pipeline.storage.run_folder import RunFolder

OWN = "model=own model.jax=tests.own_nnx:NNXNet"
PAIR = f"{FP64} {OWN} model.torch=tests.own_models:TorchNorm"


def test_it_trains_as_its_torch_twin_with_masks_that_are_shared(run):
    options = "model.options={norm:false,rate:0.3} train.randomness=shared"
    torch, jax = run(f"{PAIR} {options} train.accumulate=2 optimizer.weight_decay=0.1")
    assert_rows_close(jax.rows, torch.rows)
    assert len(torch.rows) > 10


@pytest.mark.parametrize("precision", ["fp64", pytest.param("bf16", marks=pytest.mark.slow)])
def test_with_dropout_and_statistics_a_resumed_run_repeats_the_uninterrupted_one(
    train, tmp_path, precision
):
    overrides = f"{FP64} {OWN} model.options={{rate:0.3}} train.precision={precision}"
    overrides = overrides.replace("train.precision=fp64 ", "", 1)
    assert train("whole", "jax", overrides) == 0
    assert train("halves", "jax", f"{overrides} train.stop_after=13") == 130
    assert train("halves", "jax", f"{overrides} resume={tmp_path / 'halves'}") == 0
    assert lines(tmp_path / "halves") == lines(tmp_path / "whole")
    still = overrides.replace("rate:0.3", "rate:0")
    assert train("still", "jax", still) == 0
    assert lines(tmp_path / "still") != lines(tmp_path / "whole")


def test_torch_evaluates_its_weights_and_statistics(train, tmp_path):
    assert train("made", "jax", PAIR) == 0
    assert checkpoints_of(tmp_path / "made")
    tested = f"{PAIR} mode=test checkpoint={tmp_path / 'made'}"
    assert train("there", "torch", tested) == 0
    found, expected = (RunFolder(tmp_path / name).result.test for name in ("there", "made"))
    assert found == pytest.approx(expected, rel=1e-10)


def test_dropout_draws_anew_at_every_step_and_in_every_layer():
    import jax
    from flax import nnx

    from flax_impl.adapters.from_nnx import FromNNX

    class Twice(nnx.Module):
        def __init__(self, rngs):
            self.layers = nnx.List([nnx.Dropout(0.5, rngs=rngs) for _ in range(2)])

        def __call__(self, x):
            return x * np.float32(1), *(layer(x) for layer in self.layers)

    model, x = FromNNX(np.float32, lambda key: Twice(nnx.Rngs(key))), np.ones((64, 4), np.float32)
    masks = [
        model.apply({}, x, train=True, rngs={"dropout": jax.random.key(step)})[1:]
        for step in (0, 0, 1)
    ]
    assert (masks[0][0] == masks[1][0]).all()
    assert not (masks[0][0] == masks[0][1]).all()
    assert not (masks[0][0] == masks[2][0]).all()
    assert (model.apply({}, x)[1] == x).all()


@pytest.mark.slow
def test_python_gets_the_nnx_module_with_its_weights(train, tmp_path):
    import tandem

    assert train("made", "jax", f"{FP64} {OWN}") == 0
    run = tandem.load(tmp_path / "made")
    images = run.data.test.arrays["image"][:5]
    moments = run.data.moments["image"]
    module = run.model
    with_module = module((images - moments.mean) / moments.std)
    np.testing.assert_allclose(with_module, run.predict(images), rtol=1e-5)
    assert type(module).__name__ == "NNXNet"
