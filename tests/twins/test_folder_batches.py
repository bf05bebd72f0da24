"""Images of a folder: the same bytes on both backends, in training and evaluation, and runs on them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from image_folders import write_images
from PIL import Image

from flax_impl import device as flax_device
from flax_impl.data import batches as flax_data
from lightning_impl import device as torch_device
from lightning_impl.data import batches as torch_data
from pipeline.data.batch_plan import make_batch_plan
from pipeline.data.sources import load
from pipeline.devices.world import World
from pipeline.loggers.metrics_file import read_metrics
from pipeline.storage.run_folder import RunFolder

KEYS = "dataset=folder dataset.size=8 train.batch_size=12 accelerator=cpu"
AUGMENTED = f"{KEYS} dataset.augment=true dataset.jitter=[0.4,0.4,0.4]"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Keys that name a folder of images, and its cache."""
    root = tmp_path_factory.mktemp("folder")
    write_images(root / "images", {"a": 20, "b": 20, "c": 20})
    return f"dataset.root={root}/images dataset.cache={root}"


@pytest.fixture
def batches(configure, folder):
    """A function of overrides that returns the batch plan, and the training batches of both backends."""

    def made(overrides, keys=folder):
        config = configure(f"{keys} {overrides}")
        plan, parts = (
            make_batch_plan(config, load(config.dataset, config.task)),
            config.train.accumulate,
        )
        by_torch = torch_data.TrainBatches(plan, torch_device.prepare(config), parts, lambda: 0)
        by_jax = flax_data.TrainBatches(plan, flax_device.prepare(config), parts)
        return plan, by_torch, by_jax

    return made


def pixels(plan, inputs, channels_first=False):
    """Pixels of normalised inputs."""
    mean, std = plan.data.moments["image"]
    inputs = np.moveaxis(np.asarray(inputs), 1, -1) if channels_first else np.asarray(inputs)
    return np.rint(inputs * std + mean).astype(np.uint8)


@pytest.fixture(scope="module")
def columns(tmp_path_factory, folder):
    """Keys that name the same images as a data set of `datasets`."""
    datasets = pytest.importorskip("datasets")
    root = tmp_path_factory.mktemp("columns")
    files = sorted(Path(folder.split()[0].partition("=")[2]).rglob("*.[jp]*g"))
    rows = {"image": [{"bytes": file.read_bytes(), "path": None} for file in files]}
    rows["label"] = ["abc".index(file.parent.name) for file in files]
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])}
    whole = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    whole.save_to_disk(root / "set")
    return f"dataset.path={root}/set dataset.root={root} dataset.scale=[0.08,1.0]"


CASES = {"augmented": AUGMENTED, "as they are": KEYS}
CASES["of a library"] = AUGMENTED.replace("dataset=folder", "dataset=huggingface")


@pytest.mark.parametrize("devices", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_training_batches_are_the_bytes_of_the_plan_on_both_backends(
    request, batches, folder, name, devices
):
    case = CASES[name]
    keys = request.getfixturevalue("columns") if name == "of a library" else folder
    plan, by_torch, _ = batches(f"{case} train.accumulate=2", keys)
    _, _, by_jax = batches(f"{case} train.accumulate=2 accelerator.devices={devices}", keys)
    parts, images = list(by_torch), plan.data.train.fields["image"]
    assert len(parts) == 2 * plan.steps_per_epoch == 8
    seen = set()
    for step in range(plan.steps_per_epoch):
        rows, words = plan.row_request(step)
        wanted = images.take(rows, words.get("image"))
        labels = plan.data.train.fields["label"][plan.indices(step)]
        pair = parts[2 * step : 2 * step + 2]
        joined = np.concatenate([pixels(plan, part["image"], channels_first=True) for part in pair])
        np.testing.assert_array_equal(joined, wanted)
        np.testing.assert_array_equal(np.concatenate([part["label"] for part in pair]), labels)
        _, _, draws, _ = by_jax(step, 1)
        assert draws["image"].dtype == np.uint8
        np.testing.assert_array_equal(np.asarray(draws["image"]).reshape(wanted.shape), wanted)
        seen |= {image.tobytes() for image in wanted}
    assert len(seen) == 48
    later = plan.take_stored(plan.steps_per_epoch)["image"]
    assert (len({image.tobytes() for image in later} & seen) == 0) == (case != KEYS)
    by_torch.close()
    by_jax.close()


def test_the_digest_is_the_same_on_both_backends_and_tells_experiments_apart(batches):
    cases = [AUGMENTED, f"{AUGMENTED} seed=1", KEYS, f"{KEYS} dataset.crop_pct=1"]
    cases += [f"{AUGMENTED} dataset.{key}" for key in ("flip=false", "scale=[0.5,1]", "store=16")]
    cases += [f"{AUGMENTED} dataset.labels=none task=denoising"]  # no array beside the images
    digests = []
    for case in cases:
        _, by_torch, by_jax = batches(case)
        assert by_torch.digest() == by_jax.digest()
        digests.append(by_torch.digest())
    assert len(set(digests)) == len(cases)
    assert batches(f"{AUGMENTED} dataset.workers=3")[1].digest() == digests[0]


@pytest.mark.parametrize("devices", [1, 2])
def test_an_evaluation_sees_every_image_once_on_both_backends(batches, configure, devices):
    plan, _, _ = batches(AUGMENTED)
    split = plan.data.val
    wanted = split.fields["image"][np.arange(len(split))]
    by_torch = torch_data.EvalBatches(split, plan, torch_device.prepare(configure(KEYS)), 4)
    found = [pixels(plan, batch["image"], channels_first=True) for batch in by_torch]
    np.testing.assert_array_equal(np.concatenate(found), wanted)
    device = flax_device.prepare(configure(f"{KEYS} accelerator.devices={devices}"))
    found = [
        np.asarray(draws["image"])[np.asarray(counted) > 0]
        for _, _, draws, counted in flax_data.EvalBatches(split, plan, device, 4)
    ]
    np.testing.assert_array_equal(np.concatenate(found), wanted)


VIEWS = f"{AUGMENTED} task=contrastive task.group=4"


def test_both_views_of_an_image_are_the_same_bytes_on_both_backends(batches, configure):
    plan, by_torch, by_jax = batches(VIEWS)
    images = plan.data.train.fields["image"]
    batch, (_, _, draws, _) = next(iter(by_torch)), by_jax(0, 1)
    rows, words = plan.row_request(0)
    seen = []
    for name in ("image", "view"):
        wanted = images.take(rows, words[name])
        np.testing.assert_array_equal(pixels(plan, batch[name], channels_first=True), wanted)
        np.testing.assert_array_equal(np.asarray(draws[name]).reshape(wanted.shape), wanted)
        seen += [image.tobytes() for image in wanted]
    assert len(set(seen)) == 2 * len(rows)
    by_torch.close()
    by_jax.close()
    split = plan.data.val
    rows, words = plan.evaluation_request(split, np.arange(len(split)))
    devices = torch_device.prepare(configure(KEYS)), flax_device.prepare(configure(KEYS))
    by_torch, by_jax = (
        list(side.EvalBatches(split, plan, device, 3))  # 4, the size of a group
        for side, device in zip((torch_data, flax_data), devices, strict=True)
    )
    assert [len(batch["view"]) for batch in by_torch] == [4] * (len(split) // 4) + [len(split) % 4]
    for name in ("image", "view"):
        wanted = split.fields["image"].take(rows, words[name])
        found = [pixels(plan, batch[name], channels_first=True) for batch in by_torch]
        np.testing.assert_array_equal(np.concatenate(found), wanted)
        found = [np.asarray(d[name])[np.asarray(counted) > 0] for _, _, d, counted in by_jax]
        np.testing.assert_array_equal(np.concatenate(found), wanted)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_of_jax_prepares_only_its_own_rows(configure, rank):
    device = replace(flax_device.prepare(configure(KEYS)), world=World(rank=rank, size=2))
    own = flax_data._OwnRows(device, 12, accumulate=2)
    assert own.rows.tolist() == [[0, 1, 2, 6, 7, 8], [3, 4, 5, 9, 10, 11]][rank]
    images = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1)
    whole = own.placed({"image": images})["image"]
    assert whole.shape == (12, 1, 1, 1)
    np.testing.assert_array_equal(whole[own.rows], images)


def test_both_backends_show_the_same_crops(train, folder, tmp_path):
    look = f"{folder} {AUGMENTED} debug=look model=linear"
    for backend in ("torch", "jax"):
        assert train(backend, backend, look) == 0
    shown = [(tmp_path / backend / "look.png").read_bytes() for backend in ("torch", "jax")]
    assert shown[0] == shown[1]


RUN = (
    f"{AUGMENTED} model=simple_cnn train.steps=10 train.eval_every=5steps train.eval_batch_size=5 "
    "train.precision=fp64 train.accumulate=2 logger=none train.log_every=1"
)


def test_runs_on_a_folder_agree_in_float64_and_resume_where_they_stopped(train, folder, tmp_path):
    rows, results = {}, {}
    for backend in ("torch", "jax"):
        run = tmp_path / backend
        assert train(backend, backend, f"{folder} {RUN} train.stop_after=4") == 130
        assert train(backend, backend, f"{folder} {RUN} resume={run}") == 0
        rows[backend], results[backend] = read_metrics(run / "metrics.jsonl"), RunFolder(run).result
    assert train("whole", "jax", f"{folder} {RUN} dataset.workers=1") == 0
    rows["whole"] = read_metrics(tmp_path / "whole/metrics.jsonl")
    losses = {
        name: [row["train/loss"] for row in found if "train/loss" in row]
        for name, found in rows.items()
    }
    assert losses["jax"] == losses["whole"]
    np.testing.assert_allclose(losses["torch"], losses["jax"], rtol=1e-10)
    assert results["torch"].data_digest == results["jax"].data_digest
    assert results["torch"].test == pytest.approx(results["jax"].test, rel=1e-9)
    predictions = np.load(tmp_path / "jax/predictions.npz")
    assert predictions["worst_images"].shape[1:] == (8, 8, 3)
    assert predictions["classes"].tolist() == ["a", "b", "c"]


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    """Keys that name a folder of images with masks, and its cache."""
    root = tmp_path_factory.mktemp("masks")
    for number in range(24):
        mask = np.zeros((20, 24), np.uint8)
        mask[4:12, number % 8 : number % 8 + 12] = 1 + number % 2
        mask[:, :3] = 255  # counts neither in the loss nor in its number of terms
        for name, array in (("images", mask * 60), ("masks", mask)):
            (root / name).mkdir(exist_ok=True)
            Image.fromarray(array).save(root / name / f"{number}.png")
    return f"{AUGMENTED} dataset.root={root} dataset.cache={root} train.batch_size=8"


def test_masks_are_the_same_bytes_on_both_backends(batches, masks):
    plan, by_torch, by_jax = batches(masks)
    wanted = plan.take_stored(0)["mask"]
    np.testing.assert_array_equal(next(iter(by_torch))["mask"], wanted)
    _, _, draws, _ = by_jax(0, 1)
    np.testing.assert_array_equal(np.asarray(draws["mask"]).reshape(wanted.shape), wanted)
    assert plan.terms(0) == (wanted != 255).sum()
    assert by_torch.digest() == by_jax.digest()
    by_torch.close()
    by_jax.close()


@pytest.mark.slow
def test_runs_on_masks_agree_in_float64(train, masks, tmp_path):
    run = (
        f"{masks} model=unet model.width=4 model.groups=2 train.accumulate=2 "
        "train.steps=3 train.precision=fp64 train.log_every=1 logger=none"
    )
    losses, results = [], []
    for backend in ("torch", "jax"):
        assert train(backend, backend, run) == 0
        results.append(RunFolder(tmp_path / backend).result)
        rows = read_metrics(tmp_path / backend / "metrics.jsonl")
        losses.append([row["train/loss"] for row in rows if "train/loss" in row])
    assert len(losses[0]) == 3
    np.testing.assert_allclose(*losses, rtol=1e-10)
    assert results[0].data_digest == results[1].data_digest
    assert results[0].test == pytest.approx(results[1].test, rel=1e-9)
