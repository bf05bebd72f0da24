"""Blocks whose activations are computed again: less memory, the same numbers."""

import jax
import pytest
from asserts import assert_rows_close
from short_runs import lines

from pipeline.errors import UserError

SHORT = (
    "logger=none accelerator=cpu dataset.limit=64 train.batch_size=8 train.steps=3 "
    "train.log_every=1 train.precision=fp64 train.randomness=shared seed=1"
)
CASES = {
    "vit": "model=vit model.depth=2 model.width=16 model.dropout=0.1",
    "resnet18": "model=resnet18 model.width=4",  # its running statistics follow a batch once
}


@pytest.mark.parametrize(
    ("model", "backend"),
    [
        ("vit", "torch"),
        ("vit", "jax"),
        ("resnet18", "torch"),
        pytest.param("resnet18", "jax", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_computes_activations_again_logs_the_same_numbers(
    train, tmp_path, backend, model
):
    for remat in ("true", "false"):
        assert train(remat, backend, f"{SHORT} {CASES[model]} train.remat={remat}") == 0
    found, wanted = lines(tmp_path / "true"), lines(tmp_path / "false")
    assert len(wanted) >= 5
    assert_rows_close(found, wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("randomness", ["shared", "native"])
@pytest.mark.parametrize("model", ["NNXBlocks", "EquinoxBlocks"])
def test_blocks_of_other_libraries_are_computed_again_with_the_same_numbers(
    train, tmp_path, monkeypatch, model, randomness
):
    if "Equinox" in model:
        pytest.importorskip("equinox")
    case = f"model=own model.jax=tests.own_blocks:{model} train.randomness={randomness}"
    checkpoints, checkpoint = [], jax.checkpoint

    def counted(body, **options):
        checkpoints.extend([body] * ("Recomputed" in getattr(body, "__qualname__", "")))
        return checkpoint(body, **options)

    monkeypatch.setattr(jax, "checkpoint", counted)
    for remat in ("false", "true"):
        assert train(remat, "jax", f"{SHORT} {case} train.remat={remat}") == 0
        assert len(checkpoints) % 3 == 0  # one for each block, at each trace
        assert bool(checkpoints) == (remat == "true")
    found, wanted = lines(tmp_path / "true"), lines(tmp_path / "false")
    assert len(wanted) >= 5
    assert_rows_close(found, wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["false", "true"])
def test_devices_that_gather_each_block_by_itself_log_the_numbers_of_one(train, tmp_path, remat):
    case = f"{SHORT} model=vit model.depth=2 model.width=32 model.dropout=0.1"
    fsdp = f"accelerator.devices=2 accelerator.strategy=fsdp train.remat={remat}"
    assert train("one", "jax", case) == 0
    assert train("two", "jax", f"{case} {fsdp}") == 0
    assert_rows_close(lines(tmp_path / "two"), lines(tmp_path / "one"), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("backend", "reason"), [("torch", "no nn.Sequential"), ("jax", "no modules with names")]
)
def test_a_model_without_blocks_is_refused(train, backend, reason):
    wanted = (
        f"train.remat=true: must be false for this model: it has {reason}.*inside your own model"
    )
    with pytest.raises(UserError, match=wanted):
        train("run", backend, f"{SHORT} model=linear train.remat=true")
