"""However a batch comes to the device, its content is the same."""

import numpy as np
import pytest
from short_runs import lines

import flax_impl.data.samples
import lightning_impl.data.samples
from pipeline.storage.run_folder import RunFolder

SMALL = (
    "model=mlp dataset.limit=96 train.batch_size=16 train.steps=24 train.eval_every=12steps "
    "dataset.augment=true dataset.crop_padding=1 train.precision=fp64"
)


def losses(finished):
    """Training loss by step."""
    return np.array([row["train/loss"] for row in finished.rows if "train/loss" in row])


def test_data_too_large_for_the_device_give_the_same_batches(run, tmp_path, monkeypatch):
    resident = run(f"{SMALL} name=resident")
    for module in (lightning_impl.data.samples, flax_impl.data.samples):
        monkeypatch.setattr(module, "RESIDENT_BYTES", 0)
    for backend in ("torch", "jax"):
        (tmp_path / backend).rename(tmp_path / f"{backend}-resident")
    mapped = run(f"{SMALL} name=mapped")
    for before, after in zip(resident, mapped, strict=True):
        assert after.result.data_digest == before.result.data_digest
        np.testing.assert_allclose(losses(after), losses(before), rtol=1e-12)
        assert after.result.test == pytest.approx(before.result.test, rel=1e-12)


def test_several_steps_per_compiled_call_are_the_same_steps(train, tmp_path):
    case = f"{SMALL} logger=none accelerator=cpu"
    assert train("singly", "jax", f"{case} train.log_every=1") == 0
    assert train("together", "jax", f"{case} accelerator.steps_per_call=5 train.log_every=10") == 0
    each, means = (
        np.array([row["train/loss"] for row in lines(tmp_path / name) if "train/loss" in row])
        for name in ("singly", "together")
    )
    expected = [each[:10].mean(), each[10:20].mean(), each[20:].mean()]
    np.testing.assert_allclose(means, expected, rtol=1e-10)
    singly, together = (RunFolder(tmp_path / name).result for name in ("singly", "together"))
    assert together.test == pytest.approx(singly.test, rel=1e-10)
    assert [singly.steps_per_call, together.steps_per_call] == [1, 5]
