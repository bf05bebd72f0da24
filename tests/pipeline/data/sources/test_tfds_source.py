"""The real loading code of TFDS without TensorFlow, on small archives and a prepared folder."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from flax_impl.data import sources as tfds_source
from pipeline.config.datasets import ImagesConfig, Source
from pipeline.data import sources
from pipeline.data.sources import mirror
from pipeline.errors import UserError


def config(name, root, **changes):
    return ImagesConfig(name=name, root=str(root), source=Source.tfds, **changes)


def read(name, root):
    """Do what the child process does, without starting one."""
    mirror.fetch_checksums(name, root)
    return tfds_source.read(name, root, download=True)


def pairs(inputs, targets):
    """Samples as (image, label) pairs, sorted."""
    return sorted((image.tobytes(), int(y)) for image, y in zip(inputs, targets, strict=True))


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10", "cifar100"])
def test_a_download_gives_the_images_of_the_archive_in_tfds_order(name, mirror, images, tmp_path):
    arrays = read(name, tmp_path / "data")
    for split in ("train", "test"):
        inputs, targets = arrays[f"{split}_inputs"], arrays[f"{split}_targets"]
        assert (inputs.dtype, targets.dtype) == (np.uint8, np.int64)
        assert inputs.shape == images[name, split][0].shape
        assert pairs(inputs, targets) == pairs(*images[name, split])
        assert not np.array_equal(inputs, images[name, split][0])

    again = tfds_source.read(name, tmp_path / "data", download=False)
    np.testing.assert_array_equal(again["train_inputs"], arrays["train_inputs"])


@pytest.mark.parametrize(
    ("name", "classes", "third"),
    [
        ("mnist", 10, "3"),
        ("fashion_mnist", 10, "Dress"),
        ("cifar10", 10, "cifar10_3"),
        ("cifar100", 100, "cifar100_3"),
    ],
)
def test_class_names_are_those_of_tfds_or_the_archive(name, classes, third, mirror, tmp_path):
    for named in (read(name, tmp_path / "data"), tfds_source.read(name, tmp_path / "data", False)):
        names = named["classes"].tolist()
        assert (len(names), len(set(names)), names[3]) == (classes, classes, third)


def test_a_folder_prepared_by_tfds_elsewhere_is_read_as_it_is(images, tmp_path):
    prepare(tmp_path, "array_record", *images["cifar10", "train"], *images["cifar10", "test"])
    data = sources.load(config("cifar10", tmp_path, val_fraction=0.0))
    assert isinstance(data.train.fields["image"], np.memmap)
    assert pairs(data.train.fields["image"], data.train.fields["label"]) == pairs(
        *images["cifar10", "train"]
    )
    assert pairs(data.test.fields["image"], data.test.fields["label"]) == pairs(
        *images["cifar10", "test"]
    )
    np.testing.assert_array_equal(data.val.fields["image"], data.train.fields["image"])
    assert data.classes == tuple("0123456789"), "it was prepared without names"


def prepare(root, file_format, train_inputs, train_targets, test_inputs, test_targets):
    """Write a TFDS folder with TFDS itself, from images as PNG files."""
    import tensorflow_datasets as tfds

    splits = {"train": (train_inputs, train_targets), "test": (test_inputs, test_targets)}

    with tfds.core.registered.skip_registration():

        class Cifar10(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("3.0.2")

            def _info(self):
                features = {
                    "image": tfds.features.Image(shape=(32, 32, 3)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features)
                )

            def _split_generators(self, dl_manager):
                return {split: self._generate_examples(split) for split in splits}

            def _generate_examples(self, split):
                for index, (image, label) in enumerate(zip(*splits[split], strict=True)):
                    stream = io.BytesIO()
                    Image.fromarray(image).save(stream, format="png")
                    stream.seek(0)
                    yield index, {"image": stream, "label": int(label)}

    Cifar10.url_infos = {}
    builder = Cifar10(data_dir=root, file_format=file_format)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )


def test_two_concurrent_loads_download_and_decode_once(mirror, tmp_path):
    code = (
        "import sys; from pipeline.data import sources; from pipeline.config.datasets import *;"
        "data = sources.load(ImagesConfig(name='cifar10', root=sys.argv[1], download=True,"
        "source=Source.tfds)); print(int(data.train.fields['image'].sum()), len(data.train));"
        "print(sorted({'torch', 'jax', 'tensorflow_datasets'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "data")]
    jobs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [job.communicate(timeout=300)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0]
    assert told[0] == told[1]
    assert told[0].endswith("90\n[]\n")
    assert mirror.requests.count("/cifar10/cifar-10-binary.tar.gz") == 1


def test_a_wrong_checksum_names_the_file_and_leaves_no_cache(mirror, tmp_path):
    table = mirror.folder / "mnist" / "checksums.json"
    listed = json.loads(table.read_text())
    listed["t10k-labels-idx1-ubyte.gz"]["sha256"] = "0" * 64
    table.write_text(json.dumps(listed))
    with pytest.raises(UserError, match=r"SHA-256.*t10k-labels-idx1-ubyte.gz.*wrong checksum"):
        sources.load(config("mnist", tmp_path / "data", download=True))
    assert [file.name for file in (tmp_path / "data" / "cache").iterdir()] == ["mnist-tfds-v1.lock"]
    assert not (tmp_path / "data" / "mnist" / "3.0.1").exists()


def test_without_a_table_of_checksums_only_the_original_files_are_accepted(mirror, tmp_path):
    (mirror.folder / "cifar100" / "checksums.json").unlink()
    with pytest.raises(UserError, match=r"cifar-100-binary.tar.gz.*58a81ae192c23a4be8b1804d68e5"):
        read("cifar100", tmp_path / "data")


def test_a_file_missing_on_the_mirror_is_reported_with_a_remedy(mirror, tmp_path):
    (mirror.folder / "cifar10" / "cifar-10-binary.tar.gz").unlink()
    with pytest.raises(UserError, match=r"dataset.download=true.*cifar-10-binary.tar.gz.*404"):
        read("cifar10", tmp_path / "data")


def test_missing_files_are_reported_with_their_folder_and_a_remedy(tmp_path):
    with pytest.raises(
        UserError, match=r"cifar10 lacks VERSION/dataset_info.json.*dataset.download=true"
    ):
        tfds_source.read("cifar10", tmp_path, download=False)


def test_a_truncated_file_is_reported_as_damaged(mirror, tmp_path):
    read("mnist", tmp_path / "data")
    (record,) = (tmp_path / "data" / "mnist").glob("*/mnist-train.array_record*")
    record.write_bytes(record.read_bytes()[:100])
    with pytest.raises(UserError, match=r"dataset.root.*mnist/3.0.1 are damaged"):
        tfds_source.read("mnist", tmp_path / "data", download=False)
