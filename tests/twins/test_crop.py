"""Augmented images equal NumPy's padding and slicing byte for byte on both backends."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from flax_impl import device as flax_device
from flax_impl.data import batches as flax_data
from flax_impl.data import gather as flax_gather
from flax_impl.data import samples as flax_samples
from lightning_impl import device as torch_device
from lightning_impl.data import batches as torch_data
from lightning_impl.data import gather as torch_gather
from lightning_impl.data import samples as torch_samples
from pipeline.data.batch_plan import AUGMENT, make_batch_plan
from pipeline.data.sources import load


def cropped(images, draws, padding):
    """Crop and flip one image after the other."""
    height, width = images.shape[1:3]
    around = ((padding, padding), (padding, padding), (0, 0))
    out = []
    for image, (row, column, mirrored) in zip(images, draws, strict=True):
        image = np.pad(image, around)[row : row + height, column : column + width]
        out.append(image[:, ::-1] if mirrored else image)
    return np.stack(out)


@pytest.mark.parametrize(
    ("shape", "padding"),
    [((8, 8, 1), 2), ((5, 7, 3), 1), ((3, 4, 2), 4), ((4, 4, 3), 0)],
    ids=["digits", "odd sides", "padding above the side", "no padding"],
)
def test_every_offset_and_flip_gives_the_same_bytes(shape, padding):
    offsets = range(2 * padding + 1)
    draws = np.array(list(product(offsets, offsets, (0, 1))))
    images = np.random.default_rng(0).integers(1, 256, (len(draws), *shape), dtype=np.uint8)
    expected = cropped(images, draws, padding)
    with_torch = torch_gather.crop(torch.from_numpy(images), torch.from_numpy(draws), padding)
    crop = jax.jit(flax_gather.crop, static_argnums=2)  # as the training step has it
    with_jax = crop(images, draws.astype(np.int32), padding)
    for found in (with_torch.numpy(), np.asarray(with_jax)):
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected)


@pytest.fixture
def batches(configure):
    """A function of overrides that returns the batch plan, and the training batches of both backends."""

    def made(overrides):
        config = configure(f"accelerator=cpu {overrides}")
        plan = make_batch_plan(config, load(config.dataset))
        torch_batches = torch_data.TrainBatches(
            plan, torch_device.prepare(config), config.train.accumulate, lambda: 0
        )
        flax_batches = flax_data.TrainBatches(
            plan, flax_device.prepare(config), config.train.accumulate
        )
        return plan, torch_batches, flax_batches

    return made


AUGMENTED = "dataset.limit=50 train.batch_size=16 dataset.augment=true dataset.crop_padding=2"


@pytest.mark.parametrize("resident", [True, False], ids=["on the device", "memory-mapped"])
@pytest.mark.parametrize("flip", ["true", "false"])
def test_augmented_batches_are_the_same_bytes_in_every_epoch(batches, monkeypatch, resident, flip):
    if not resident:
        monkeypatch.setattr(torch_samples, "RESIDENT_BYTES", 0)
        monkeypatch.setattr(flax_samples, "RESIDENT_BYTES", 0)
    plan, torch_batches, flax_batches = batches(f"{AUGMENTED} dataset.flip={flip}")
    train, seen, raw = (
        plan.data.train,
        set(),
        jax.jit(flax_gather.gather_batch, static_argnums=(3, 4)),
    )
    for step in range(2 * plan.steps_per_epoch):
        chosen, draws = plan.indices(step), plan.draws(step)[AUGMENT]
        expected = cropped(train.fields["image"][chosen], draws, 2)
        seen |= set(draws[:, 2])
        with_torch = torch_batches.augmented(step)
        samples, *call = flax_batches(step, 1)
        with_jax = raw(
            samples, *jax.tree.map(lambda array: array[0, 0], call[:2]), (("image", AUGMENT),), 2
        )
        for batch in (with_torch, with_jax):
            assert np.asarray(batch["image"]).dtype == np.uint8
            np.testing.assert_array_equal(np.asarray(batch["image"]), expected)
            np.testing.assert_array_equal(np.asarray(batch["label"]), train.fields["label"][chosen])
    assert seen == ({0, 1} if flip == "true" else {0})


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_normalised_inputs_are_the_same_numbers(batches, precision):
    plan, torch_batches, flax_batches = batches(f"{AUGMENTED} train.precision={precision}")
    batch = torch_batches.augmented(0)
    samples, *_ = flax_batches(0, 1)
    with_torch = torch_gather.normalised(torch_batches.samples, batch)["image"]
    with_torch = with_torch.permute(0, 2, 3, 1).numpy()
    images = batch["image"].numpy()
    with_jax = np.asarray(flax_gather.normalised(samples, {"image": jnp.asarray(images)})["image"])
    assert with_torch.dtype == with_jax.dtype == {"fp32": np.float32, "fp64": np.float64}[precision]
    np.testing.assert_array_equal(with_torch, with_jax)
    mean, std = plan.data.moments["image"]
    expected = (images - mean) / std
    np.testing.assert_allclose(with_torch, expected, rtol=1e-5 if precision == "fp32" else 1e-12)


def test_batch_digests_are_the_same_on_both_backends_and_distinguish_experiments(batches):
    cases = [AUGMENTED, f"{AUGMENTED} seed=1", f"{AUGMENTED} dataset.crop_padding=3"]
    cases += [
        "dataset.limit=50 train.batch_size=16",
        "model=linear dataset=line train.batch_size=2",
    ]
    digests = []
    for case in cases:
        _, torch_batches, flax_batches = batches(case)
        assert torch_batches.digest() == flax_batches.digest()
        digests.append(torch_batches.digest())
    assert len(set(digests)) == len(cases)
