"""The real loading code of torchvision, on small archives in the original formats from a mirror."""

import json
import shutil

import numpy as np
import pytest

from lightning_impl.data import sources as torchvision_source
from pipeline.config.datasets import ImagesConfig, Source
from pipeline.data import sources
from pipeline.data.sources import mirror
from pipeline.data.stratified_order import stratified_order
from pipeline.errors import UserError
from pipeline.tasks import Classification


def config(name, root, **changes):
    return ImagesConfig(name=name, root=str(root), source=Source.torchvision, **changes)


def read(name, root):
    """Do what the child process does, without starting one."""
    mirror.fetch_checksums(name, root)
    return torchvision_source.read(name, root, download=True)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100"])
def test_a_download_gives_the_images_of_the_archive_in_its_order(name, mirror, images, tmp_path):
    arrays = read(name, tmp_path / "data")
    for split in ("train", "test"):
        inputs, targets = arrays[f"{split}_inputs"], arrays[f"{split}_targets"]
        assert (inputs.dtype, targets.dtype) == (np.uint8, np.int64)
        np.testing.assert_array_equal(inputs, images[name, split][0])
        np.testing.assert_array_equal(targets, images[name, split][1])


@pytest.mark.parametrize(
    ("name", "classes", "third"),
    [
        ("mnist", 10, "3 - three"),
        ("fashion_mnist", 10, "Dress"),
        ("cifar10", 10, "cifar10_3"),
        ("cifar100", 100, "cifar100_3"),
    ],
)
def test_class_names_are_those_of_torchvision_or_the_archive(
    name, classes, third, mirror, tmp_path
):
    named = read(name, tmp_path / "data")["classes"].tolist()
    assert (len(named), len(set(named)), named[3]) == (classes, classes, third)


def test_the_first_load_downloads_and_caches_and_the_second_only_maps(
    mirror, images, tmp_path, monkeypatch, warm_processes
):
    root = tmp_path / "data"
    data = sources.load(config("cifar10", root, download=True, val_fraction=0.2))
    assert [len(data.train), len(data.val), len(data.test)] == [80, 20, 10]
    assert (data.outputs, type(data.task)) == (10, Classification)
    assert data.classes == tuple(f"cifar10_{number}" for number in range(10))

    inputs, targets = images["cifar10", "train"]
    order = stratified_order(targets)
    np.testing.assert_array_equal(data.train.fields["image"], inputs[order][:80])
    np.testing.assert_array_equal(data.val.fields["label"], targets[order][80:])
    np.testing.assert_array_equal(np.bincount(data.val.fields["label"]), [2] * 10)
    np.testing.assert_array_equal(data.test.fields["image"], images["cifar10", "test"][0])
    mean, std = data.moments["image"]
    np.testing.assert_allclose(mean, inputs.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, inputs.std(axis=(0, 1, 2)), rtol=1e-12)

    def no_process(*_, **__):
        raise AssertionError("a cached data set starts no process")

    monkeypatch.setattr("pipeline.data.sources.decode_subprocess.subprocess.run", no_process)
    shutil.rmtree(root / "cifar-10-batches-py")
    again = sources.load(config("cifar10", root, val_fraction=0.2))
    for split in ("train", "val", "test"):
        assert isinstance(getattr(again, split).fields["image"], np.memmap)
        np.testing.assert_array_equal(
            getattr(again, split).fields["image"], getattr(data, split).fields["image"]
        )
    np.testing.assert_array_equal(again.moments["image"], data.moments["image"])
    assert again.classes == data.classes


def test_an_older_cache_without_class_names_still_opens(mirror, tmp_path, warm_processes):
    root = tmp_path / "data"
    named = sources.load(config("mnist", root, download=True))
    (meta,) = root.glob("cache/mnist-*/meta.json")
    known = json.loads(meta.read_text())
    del known["arrays"]["classes"]
    meta.write_text(json.dumps(known))
    again = sources.load(config("mnist", root))
    assert (len(named.classes), again.classes) == (10, None)
    np.testing.assert_array_equal(again.train.fields["image"], named.train.fields["image"])


def test_raw_files_from_a_mirror_are_accepted_later_without_it(mirror, tmp_path, monkeypatch):
    first = read("cifar10", tmp_path / "data")
    monkeypatch.delenv("TANDEM_MIRROR")
    again = torchvision_source.read("cifar10", tmp_path / "data", download=False)
    np.testing.assert_array_equal(first["train_inputs"], again["train_inputs"])


@pytest.mark.parametrize(
    ("name", "file"),
    [("cifar10", "cifar-10-python.tar.gz"), ("mnist", "t10k-labels-idx1-ubyte.gz")],
)
def test_a_wrong_checksum_names_the_file(name, file, mirror, tmp_path):
    falsify_checksum(mirror, name, file)
    with pytest.raises(UserError, match=f"{file}.*MD5 0000"):
        read(name, tmp_path / "data")


@pytest.mark.slow  # the TFDS twin of this test is not
def test_a_wrong_checksum_in_the_child_process_reaches_the_user_and_leaves_no_cache(
    mirror, tmp_path
):
    falsify_checksum(mirror, "cifar100", "cifar-100-python.tar.gz")
    with pytest.raises(UserError, match=r"cifar-100-python.tar.gz.*MD5 0000"):
        sources.load(config("cifar100", tmp_path / "data", download=True))
    assert [file.name for file in (tmp_path / "data" / "cache").iterdir()] == [
        "cifar100-torchvision-v1.lock"
    ]


def falsify_checksum(mirror, name, file):
    """List a wrong checksum for a file in the mirror's table."""
    table = mirror.folder / name / "checksums.json"
    listed = json.loads(table.read_text())
    listed[file]["md5"] = "0" * 32
    table.write_text(json.dumps(listed))


def test_without_a_table_of_checksums_only_the_original_files_are_accepted(mirror, tmp_path):
    (mirror.folder / "mnist" / "checksums.json").unlink()
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte.gz.*f68b3c2dcbeaaa9fbdd348bb"):
        read("mnist", tmp_path / "data")


def test_a_file_missing_on_the_mirror_is_reported_with_a_remedy(mirror, tmp_path):
    (mirror.folder / "cifar10" / "cifar-10-python.tar.gz").unlink()
    with pytest.raises(UserError, match=r"dataset.download=true.*404.*cifar-10-python.tar.gz"):
        read("cifar10", tmp_path / "data")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mnist", "train-images-idx3-ubyte.*MNIST/raw.*dataset.download=true"),
        ("cifar10", "data_batch_1.*cifar-10-batches-py.*dataset.download=true.*tar.gz"),
    ],
)
def test_missing_files_are_reported_with_their_folder_and_a_remedy(name, words, tmp_path):
    with pytest.raises(UserError, match=words):
        torchvision_source.read(name, tmp_path, download=False)


def test_a_damaged_raw_file_is_named(mirror, tmp_path):
    read("cifar10", tmp_path / "data")
    (tmp_path / "data" / "cifar-10-batches-py" / "data_batch_3").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"data_batch_3.*MD5"):
        torchvision_source.read("cifar10", tmp_path / "data", download=False)


def test_a_truncated_mnist_file_is_reported_as_damaged(mirror, tmp_path):
    read("mnist", tmp_path / "data")
    file = tmp_path / "data" / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"dataset.root.*MNIST/raw are damaged"):
        torchvision_source.read("mnist", tmp_path / "data", download=False)
