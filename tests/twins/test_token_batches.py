"""Token batches: the same whole numbers and digest on both backends, never normalised."""

import dataclasses
from collections import Counter
from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from asserts import assert_rows_close

import flax_impl.data.batches
import flax_impl.data.gather
import flax_impl.data.samples
import flax_impl.device
import lightning_impl.data.batches
import lightning_impl.data.gather
import lightning_impl.data.samples
import lightning_impl.device
from pipeline.data import sources
from pipeline.data.batch_plan import make_batch_plan
from pipeline.data.dataset import Split

LENGTH, BATCH = 9, 4


@pytest.fixture(params=["resident", "mapped"])
def plan(request, configure, tmp_path, monkeypatch):
    """Batch plan of a small text, whose splits are on the device or memory-mapped."""
    if request.param == "mapped":
        for module in (lightning_impl.data.samples, flax_impl.data.samples):
            monkeypatch.setattr(module, "RESIDENT_BYTES", 0)
    text = np.random.default_rng(0).integers(0, 256, 543, dtype=np.uint8)
    (tmp_path / "text").write_bytes(text.tobytes())
    config = configure(
        f"dataset=text dataset.path={tmp_path}/text dataset.root={tmp_path} "
        f"dataset.length={LENGTH} train.batch_size={BATCH} accelerator=cpu"
    )
    return make_batch_plan(config, sources.load(config.dataset))


@pytest.fixture
def devices(configure):
    """Devices of both backends."""
    config = configure("accelerator=cpu")
    return lightning_impl.device.prepare(config), flax_impl.device.prepare(config)


def test_training_batches_have_the_windows_of_the_plan_on_both_backends(plan, devices):
    by_torch = lightning_impl.data.batches.TrainBatches(plan, devices[0], 2, lambda: 0)
    by_jax = flax_impl.data.batches.TrainBatches(plan, devices[1], 2)
    parts = list(by_torch)
    for step in range(plan.steps_per_epoch):
        chosen = plan.indices(step)
        first, second = parts[2 * step : 2 * step + 2]
        inputs, targets = (torch.cat([first[name], second[name]]) for name in ("tokens", "next"))
        assert (inputs.dtype, targets.dtype) == (torch.int64, torch.int64)
        np.testing.assert_array_equal(inputs, plan.data.train.fields["tokens"][chosen])
        np.testing.assert_array_equal(targets, plan.data.train.fields["next"][chosen])
        np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])

        samples, chosen, draws, _ = by_jax(step, 1)
        rows = chosen if samples.fields is None else samples.fields
        assert {array.dtype for array in rows.values()} == {
            np.dtype(np.uint8)
        }  # a byte on the device
        for part, wanted in enumerate(parts[2 * step : 2 * step + 2]):
            of_part = jax.tree.map(itemgetter((0, part)), chosen)
            stored = flax_impl.data.gather.gather_batch(samples, of_part, draws)
            batch = flax_impl.data.gather.normalised(samples, stored)
            assert batch.keys() == wanted.keys()
            for name, array in batch.items():
                assert array.dtype == jnp.int32
                np.testing.assert_array_equal(array, wanted[name])


def test_the_digest_is_the_same_on_both_backends_and_depends_on_the_text(plan, devices):
    def digests(plan):
        return {
            lightning_impl.data.batches.TrainBatches(plan, devices[0], 1, lambda: 0).digest(),
            flax_impl.data.batches.TrainBatches(plan, devices[1], 1).digest(),
        }

    (one,) = digests(plan)
    edited = plan.data.train.fields["tokens"].copy()
    edited[plan.indices(0)[0], 0] ^= 1
    train = Split({"tokens": edited, "next": plan.data.train.fields["next"]})
    changed = dataclasses.replace(plan, data=dataclasses.replace(plan.data, train=train))
    (other,) = digests(changed)
    assert one != other


def test_an_evaluation_sees_every_window_once_on_both_backends(plan, devices):
    split = plan.data.test
    wanted = Counter(map(bytes, np.c_[split.fields["tokens"], split.fields["next"]]))
    assert len(split) % BATCH

    seen = Counter()
    for batch in lightning_impl.data.batches.EvalBatches(split, plan, devices[0], BATCH):
        seen.update(map(bytes, np.c_[batch["tokens"], batch["next"]].astype(np.uint8)))
    assert seen == wanted

    seen = Counter()
    for samples, indices, draws, counted in flax_impl.data.batches.EvalBatches(
        split, plan, devices[1], BATCH
    ):
        stored = flax_impl.data.gather.gather_batch(samples, indices, draws)
        batch = flax_impl.data.gather.normalised(samples, stored)
        rows = np.c_[batch["tokens"], batch["next"]].astype(np.uint8)
        seen.update(bytes(row) for row, count in zip(rows, counted, strict=True) if count)
    assert seen == wanted


def test_a_language_model_trains_and_tests_the_same_on_both_backends(run, tmp_path):
    text = np.random.default_rng(0).choice(list(b"tandem "), 2000).astype(np.uint8)
    (tmp_path / "text").write_bytes(text.tobytes())
    by_torch, by_jax = run(
        f"model=gpt model.depth=1 model.heads=2 model.width=8 dataset=text dataset.length={LENGTH} "
        f"dataset.path={tmp_path}/text dataset.root={tmp_path} train.batch_size=16 train.steps=6 "
        "train.eval_every=3steps train.accumulate=2 train.eval_batch_size=7 train.precision=fp64 "
        "optimizer.lr=0.03 train.label_smoothing=0.1"
    )
    assert by_torch.result.data_digest == by_jax.result.data_digest
    assert_rows_close(by_jax.rows, by_torch.rows, atol=1e-12)
    test = by_jax.result.test
    assert test.keys() == {"test/loss", "test/perplexity", "test/accuracy"}
    assert test["test/perplexity"] == pytest.approx(np.exp(test["test/loss"]))
    assert by_jax.result.best.metric == "val/loss"
    # Seven letters among 256 bytes are found at once; which of them comes next cannot be known.
    losses = [row["train/loss"] for row in by_jax.rows if "train/loss" in row]
    assert losses[0] == pytest.approx(np.log(256), rel=0.1)
    assert losses[-1] < losses[0] - 0.2
