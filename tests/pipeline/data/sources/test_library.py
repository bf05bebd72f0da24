"""Any data set of torchvision or TFDS: columns, splits, sizes, and what is refused."""

import bz2
import struct
from pathlib import Path

import numpy as np
import pytest
from image_folders import write_images
from local_shapes import prepare_shapes
from PIL import Image

import flax_impl.data.library
import lightning_impl.data.library
from pipeline.config.column_datasets import LibraryConfig
from pipeline.config.datasets import Source
from pipeline.config.tasks import DenoisingConfig, MultilabelConfig
from pipeline.data import sources
from pipeline.data.image_augmentation import sample_words
from pipeline.data.sources import library
from pipeline.data.sources.columns.decoding import decode
from pipeline.errors import UserError
from pipeline.tasks import make_task

RANDOM = np.random.default_rng(0)


READERS = {
    Source.torchvision: lightning_impl.data.library.open_table,
    Source.tfds: flax_impl.data.library.open_table,
}


def decode_here(config, wanted, scratch):
    """Do what the child process does, without starting one, which takes seconds."""
    table = READERS[config.source](config, Path(config.root))
    return decode(table, config, wanted, scratch)


@pytest.fixture
def load(tmp_path):
    """A function that loads a data set of a library from the test's own folder."""

    def loaded(name, task=None, source="torchvision", **keys):
        config = LibraryConfig(name=name, root=str(tmp_path), source=Source[source], **keys)
        task = None if task is None else make_task(task, task.name)
        return library.load(config, task, decode_here)

    return loaded


def splits(data):
    return data.train, data.val, data.test


def idx(array):
    """An array in the format of MNIST."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_kmnist(root):
    """Write KMNIST's files; return the images of training."""
    folder = root / "KMNIST/raw"
    folder.mkdir(parents=True)
    for part, count in (("train", 60), ("t10k", 20)):
        images = RANDOM.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
        if part == "train":
            training = images
    return training


def test_files_of_torchvision_are_read_once(load, tmp_path):
    images = write_kmnist(tmp_path)
    data = load("KMNIST", val_fraction=0.2)
    assert (data.name, data.task.name, data.outputs) == ("KMNIST", "classification", 10)
    assert data.classes[:3] == ("o", "ki", "su")
    assert [len(split) for split in splits(data)] == [48, 12, 20]
    seen = [image.tobytes() for split in splits(data)[:2] for image in split.fields["image"]]
    assert sorted(seen) == sorted(image.tobytes() for image in images)
    first = data.train.fields["image"][0, ..., 0]
    place = [(image == first).all() for image in images].index(True)
    assert data.train.fields["label"][0] == place % 10
    by_child = sources.load(LibraryConfig(name="KMNIST", root=str(tmp_path / "."), size=14))
    assert by_child.train.fields["image"].shape == (54, 14, 14, 1)
    (tmp_path / "KMNIST/raw/train-images-idx3-ubyte").unlink()
    assert len(load("KMNIST", val_fraction=0.2).train) == 48  # from the array cache


def test_other_formats_of_torchvision_are_read(load, tmp_path):
    for name, count in (("usps.bz2", 40), ("usps.t.bz2", 20)):
        rows = [
            f"{row % 10 + 1} {' '.join(f'{p + 1}:{row / 20 - 1:.4f}' for p in range(256))}"
            for row in range(count)
        ]
        (tmp_path / name).write_bytes(bz2.compress("\n".join(rows).encode()))
    data = load("USPS")
    assert [len(split) for split in splits(data)] == [36, 4, 20]
    assert data.train.fields["image"].shape == (36, 16, 16, 1)
    whites = data.train.fields["image"][:, 0, 0, 0]
    np.testing.assert_array_equal(np.rint(whites / 255 * 40) % 10, data.train.fields["label"])


def test_splits_and_classes_are_those_of_the_class_in_folders_with_spaces(load, tmp_path):
    for split, count in (("train", 6), ("valid", 3), ("test", 2)):
        for place, name in enumerate(("Å land", "ZZ")):
            folder = tmp_path / "country211" / split / name
            folder.mkdir(parents=True)
            for row in range(count):
                Image.new("RGB", (9, 8), (row, place, 0)).save(folder / f"{row} a.png")
    data = load("Country211")
    assert [len(split) for split in splits(data)] == [12, 6, 4]
    assert sorted(data.classes) == ["ZZ", "Å land"]
    for split in splits(data):
        np.testing.assert_array_equal(
            split.fields["image"][:, 0, 0, 1] > 0, split.fields["label"] == data.classes.index("ZZ")
        )
    data = load("Country211", splits={"train": "valid", "test": "test"}, val_fraction=0)
    assert [len(split) for split in splits(data)] == [6, 6, 4]
    (tmp_path / "country211/test/ZZ").rename(tmp_path / "country211/test/Zz")
    with pytest.raises(UserError, match=r"test of Country211 has other classes than train\. .*Zz"):
        load("Country211", size=8)
    (tmp_path / "country211/test/Zz").rename(tmp_path / "country211/test/ZZ")
    (tmp_path / "country211/train/ZZ/0 a.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"dataset\.name=Country211: sample \d+ .* cannot be read"):
        load("Country211", size=8)


def test_damaged_files_of_torchvision_are_told_from_absent_ones(load, tmp_path):
    with pytest.raises(
        UserError, match=r"root=.*USPS is not there.*usps\.bz2.*Type dataset\.download=true"
    ):
        load("USPS")
    write_kmnist(tmp_path)
    (tmp_path / "KMNIST/raw/t10k-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01")
    with pytest.raises(UserError, match=r"root=.*KMNIST is not there, or damaged"):
        load("KMNIST")


FAKE = {"size": 50, "image_size": [3, 8, 10], "num_classes": 5}


def test_a_class_gets_its_options_and_images_are_cut_to_a_size(load):
    data = load("FakeData", options=FAKE)
    assert data.train.fields["image"].shape == (41, 8, 10, 3)
    assert [len(split) for split in splits(data)] == [41, 4, 5]
    small = load("FakeData", options=FAKE, size=6, limit=7)
    assert small.train.fields["image"].shape == (7, 6, 6, 3)


@pytest.mark.parametrize("source", ["torchvision", "tfds"])
def test_with_a_scale_images_are_stored_in_any_size(load, tmp_path, source):
    prepare_shapes(tmp_path)
    for split, count in (("train", 6), ("valid", 3), ("test", 2)):
        write_images(tmp_path / "country211" / split, {"a": count, "b": count})
    keys = {"name": "Country211"}
    if source == "tfds":
        keys = {"name": "local_shapes", "columns": ["picture"]}
    data = load(source=source, size=4, crop_pct=0.8, scale=[0.1, 1.0], **keys)
    images = data.train.fields["image"]
    assert images.take(np.arange(3), sample_words(0, 0, np.arange(3))).shape == (3, 4, 4, 3)
    stored = [images.file[row] for row in images.rows]
    assert {min(image.shape[:2]) for image in stored} == {5}
    values = np.concatenate([image.reshape(-1, 3) for image in stored])
    np.testing.assert_allclose(data.moments["image"].mean, values.mean(axis=0), rtol=1e-12)
    if source == "torchvision":
        assert len({image.shape for image in stored}) > 3
        # The files of a class follow one another.
        np.testing.assert_array_equal(data.train.fields["label"], images.rows >= 6)


@pytest.mark.parametrize(
    ("name", "keys", "words"),
    [
        ("", {}, r"dataset\.name='': must be a class of torchvision\.datasets, such as KMNIST"),
        ("kmnist", {}, r"dataset\.name=kmnist: .* no such class\. Did you mean KMNIST\?"),
        ("Nothing", {}, r"dataset\.name=Nothing: .*It has LSUN"),
        ("EMNIST", {}, r"dataset\.options=\{\}: .*missing 1 required .*'split'.*\{NAME: VALUE\}"),
        ("FakeData", {"options": {"sizes": 3}}, "unexpected keyword argument 'sizes'"),
        (
            "FakeData",
            {"options": FAKE, "columns": ["images"]},
            "no such column.*Did you mean image",
        ),
        ("FakeData", {"options": FAKE, "splits": {"train": "a"}}, "has no split a, only train"),
        ("DTD", {"splits": {"train": "trane"}}, r"other splits: .*trane.*Set dataset\.splits"),
        ("", {"source": "tfds"}, "must be a builder of TFDS, such as kmnist"),
        ("kmnst", {"source": "tfds"}, r"dataset\.name=kmnst: .*Did you mean kmnist\?"),
        ("kmnist", {"source": "tfds"}, r"kmnist lacks VERSION/dataset_info\.json"),
    ],
)
def test_what_cannot_be_read_is_refused(load, name, keys, words):
    with pytest.raises(UserError, match=words):
        load(name, **keys)


def test_other_targets_than_classes_are_told(load, tmp_path):
    pictures = tmp_path / "VOCdevkit/VOC2012"
    for folder in ("ImageSets/Main", "JPEGImages", "Annotations"):
        (pictures / folder).mkdir(parents=True)
    for split in ("train", "val"):
        (pictures / f"ImageSets/Main/{split}.txt").write_text("a\nb\n")
    for name in "ab":
        Image.new("RGB", (8, 6)).save(pictures / f"JPEGImages/{name}.jpg")
        (pictures / f"Annotations/{name}.xml").write_text("<annotation><size/></annotation>")
    with pytest.raises(UserError, match=r"dataset\.targets=target: .*values of the type dict"):
        load("VOCDetection")
    assert load("VOCDetection", DenoisingConfig(), targets=[]).train.fields["image"].shape[1:] == (
        6,
        8,
        3,
    )


def test_features_of_tfds_are_columns(load, tmp_path):
    prepare_shapes(tmp_path)
    with pytest.raises(
        UserError, match=r"size=null: images of picture are . × 8 pixels, in row \d+ . × 8"
    ):
        load("local_shapes", source="tfds", columns=["picture"])
    keys = {"source": "tfds", "columns": ["picture"], "size": 6}
    data = load("local_shapes", **keys)
    assert (data.task.name, data.classes, data.outputs) == (
        "classification",
        ("round", "flat", "other"),
        3,
    )
    assert [len(split) for split in splits(data)] == [30, 8, 8]
    image, label = data.train.fields["image"], data.train.fields["label"]
    np.testing.assert_array_equal(image[:, 0, 0, 0] % 2, label)
    tags = load("local_shapes", targets=["tags"], **keys)
    assert (tags.task.name, tags.classes) == ("multilabel", ("a", "b"))
    rows = tags.train.fields["image"][:, 0, 0, 0]
    np.testing.assert_array_equal(tags.train.fields["labels"].sum(axis=1), rows % 3)
    weight = load("local_shapes", targets=["weight"], **keys)
    np.testing.assert_array_equal(
        weight.train.fields["target"][:, 0], weight.train.fields["image"][:, 0, 0, 0] / 2
    )
    words = load("local_shapes:1.2.0", source="tfds", columns=["words"], length=2, padding=9)
    assert words.form.value == "token sequences"
    kept = {tuple(row) for row in words.train.fields["tokens"].tolist()}
    assert kept == {(9, 9), (1, 9), (1, 2)}
    named = load("local_shapes", MultilabelConfig(), "tfds", columns=["weight"], targets=["tags"])
    assert named.train.fields["features"].shape == (30, 1)
