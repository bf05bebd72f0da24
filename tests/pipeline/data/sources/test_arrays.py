"""Arrays in files: fields and splits by name, tasks, sizes, moments, and what is refused."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

import pipeline.data.dataset
import pipeline.data.sources.arrays.scans
from pipeline.config.own_datasets import ArraysConfig
from pipeline.config.tasks import TASKS
from pipeline.data import sources
from pipeline.data.dataset import Form
from pipeline.data.stratified_order import stratified_rows
from pipeline.errors import UserError

RANDOM = np.random.default_rng(0)
LABELS = np.arange(60) % 4
IMAGES = RANDOM.integers(0, 256, (60, 5, 4, 3)).astype(np.uint8)
FEATURES = RANDOM.normal(3, 2, (60, 7))


@pytest.fixture
def load(tmp_path):
    """A function that writes arrays into a file or folder, and loads them."""

    def loaded(arrays, file="data.npz", task="auto", **keys):
        path = tmp_path / file
        if path.suffix == ".npz":
            np.savez(path, **arrays)
        elif path.suffix == ".npy":
            np.save(path, arrays)
        else:
            for name, array in arrays.items():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                np.save(path / f"{name}.npy", array)
        config = ArraysConfig(path=str(path), root=str(tmp_path / "root"), **keys)
        return sources.load(config, TASKS[task]())

    return loaded


@pytest.mark.parametrize("file", ["data.npz", "folder"])
def test_arrays_are_fields_by_name_split_with_every_class_in_its_proportion(load, file):
    data = load({"image": IMAGES, "label": LABELS}, file, val_fraction=0.2, test_fraction=0.2)
    assert (data.name, data.task.name, data.outputs) == ("arrays", "classification", 4)
    assert [len(split) for split in (data.train, data.val, data.test)] == [38, 10, 12]
    for split in (data.train, data.val, data.test):
        assert np.ptp(np.bincount(split.fields["label"])) <= 1
    seen = np.concatenate([split.fields["image"] for split in (data.train, data.val, data.test)])
    assert sorted(map(bytes, seen)) == sorted(map(bytes, IMAGES))
    first = data.train.fields["image"][0]
    place = [(image == first).all() for image in IMAGES].index(True)
    assert data.train.fields["label"][0] == LABELS[place]
    mean, _ = data.moments["image"]
    trained = np.concatenate([split.fields["image"] for split in (data.train, data.val)])
    np.testing.assert_allclose(mean, trained.mean(axis=(0, 1, 2)), rtol=1e-12)


def test_names_that_begin_with_a_split_are_of_this_split_in_an_archive_and_in_a_folder(load):
    given = {
        "train/features": FEATURES[:30],
        "val/features": FEATURES[30:45],
        "test/features": FEATURES[45:],
    }
    given |= {name.replace("features", "target"): array[:, 0] for name, array in given.items()}
    for file in ("data.npz", "folder"):
        data = load(given, file)
        assert data.task.name == "regression"
        np.testing.assert_array_equal(data.train.fields["features"], FEATURES[:30])
        np.testing.assert_array_equal(data.val.fields["features"], FEATURES[30:45])
        assert data.test.fields["target"].shape == (15, 1)
        assert isinstance(data.train.fields["features"], np.memmap)
        assert data.moments == {}


def test_archives_in_a_folder_are_splits_by_their_names(tmp_path):
    for split, part in (("train", slice(40)), ("test", slice(40, 60))):
        np.savez(tmp_path / f"{split}.npz", image=IMAGES[part], label=LABELS[part])
    config = ArraysConfig(path=str(tmp_path), root=str(tmp_path / "root"), val_fraction=0.25)
    data = sources.load(config)
    assert [len(split) for split in (data.train, data.val, data.test)] == [30, 10, 20]
    np.testing.assert_array_equal(data.test.fields["image"], IMAGES[40:])


def test_an_archive_is_extracted_once_and_again_when_it_changes(load, tmp_path):
    load({"image": IMAGES, "label": LABELS})
    [cached] = (tmp_path / "root/cache").glob("*/image.npy")
    before = cached.stat().st_mtime_ns
    config = ArraysConfig(path=str(tmp_path / "data.npz"), root=str(tmp_path / "root"))
    sources.load(config)
    assert cached.stat().st_mtime_ns == before
    data = load({"image": 255 - IMAGES, "label": LABELS})
    assert len(list((tmp_path / "root/cache").glob("*/image.npy"))) == 2
    changed = {bytes(255 - image) for image in IMAGES}
    assert set(map(bytes, data.train.fields["image"])) < changed


@dataclass
class Told:
    """The task that names of fields tell, and its outputs."""

    arrays: dict[str, np.ndarray]
    task: str
    outputs: int
    keys: dict = field(default_factory=dict)


MASK = RANDOM.integers(0, 3, (60, 5, 4)).astype(np.uint8)
MASK[0, 0, 0] = 255
TOLD = [
    Told({"image": IMAGES, "label": LABELS}, "classification", 4),
    Told({"image": IMAGES, "label": LABELS}, "classification", 9, {"sizes": {"label": 9}}),
    Told({"features": FEATURES, "labels": FEATURES[:, :2] > 3}, "multilabel", 2),
    Told({"features": FEATURES, "target": FEATURES}, "regression", 7),
    Told({"features": FEATURES[:, 0], "target": FEATURES[:, 0]}, "regression", 1),
    Told({"image": IMAGES, "mask": MASK}, "segmentation", 3),
    Told({"tokens": MASK[:, 0] % 255, "label": LABELS}, "classification", 4),
    Told({"tokens": LABELS.reshape(20, 3)}, "language", 4),
    Told({"source": LABELS.reshape(20, 3), "target": LABELS.reshape(20, 3) % 3}, "seq2seq", 4),
    Told({"tokens": LABELS.reshape(20, 3), "next": LABELS.reshape(20, 3) + 1}, "language", 5),
]


@pytest.mark.parametrize("case", TOLD, ids=lambda case: f"{'-'.join(case.arrays)}-{case.outputs}")
def test_names_of_fields_tell_the_task_before_and_after_loading(load, tmp_path, case):
    data = load(case.arrays, **case.keys)
    assert (data.task.name, data.outputs) == (case.task, case.outputs)
    config = ArraysConfig(path=str(tmp_path / "data.npz"), root=str(tmp_path / "root"))
    assert sources.task_of(config, TASKS["auto"]()).name == case.task


def test_tokens_alone_become_tokens_and_the_next_of_each_as_views(load):
    tokens = np.arange(60, dtype=np.uint16).reshape(12, 5)
    data = load(tokens, "tokens.npy", folds=3, fold=0)
    assert data.form is Form.tokens
    assert data.train.fields["tokens"].shape[1:] == (4,)
    np.testing.assert_array_equal(data.train.fields["next"], data.train.fields["tokens"] + 1)
    assert data.train.fields["next"].dtype == np.uint16
    data = load(tokens, "tokens.npy", "masked_language", folds=3, fold=0)
    assert data.train.fields.keys() == {"tokens"}
    assert data.train.fields["tokens"].shape[1:] == (5,)


def test_a_chosen_task_takes_the_place_of_the_one_that_names_tell(load):
    arrays = {"image": IMAGES, "label": LABELS, "target": FEATURES}
    assert load(arrays, task="regression").outputs == 7
    assert load({"image": IMAGES}, task="denoising").inputs == ("image",)
    with pytest.raises(UserError, match=r"task=auto: no name of the fields .*Set task=NAME"):
        load({"image": IMAGES})
    with pytest.raises(UserError, match=r"task=regression: each sample needs target"):
        load({"image": IMAGES, "label": LABELS}, task="regression")


def test_float_fields_stay_as_they_are_unless_they_are_to_be_normalised(load):
    images = IMAGES.astype(np.float32) / 255
    plain = load({"image": images, "label": LABELS})
    assert plain.moments["image"].mean.tolist() == [0, 0, 0]
    assert plain.moments["image"].std.tolist() == [1, 1, 1]
    scaled = load({"image": images, "label": LABELS}, normalize=["image"])
    trained = [split.fields["image"] for split in (scaled.train, scaled.val)]
    trained = np.concatenate(trained).astype(np.float64)
    mean, std = scaled.moments["image"]
    np.testing.assert_allclose(mean, trained.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, trained.std(axis=(0, 1, 2)), rtol=1e-12)
    raw = load({"image": IMAGES, "label": LABELS}, normalize=[])
    assert raw.moments["image"].std.tolist() == [1, 1, 1]
    both = load({"features": FEATURES, "label": LABELS}, normalize=["features"], val_fraction=0.0)
    np.testing.assert_allclose(
        both.moments["features"].std, both.train.fields["features"].std(axis=0), rtol=1e-12
    )


@dataclass
class Refused:
    """Arrays that are refused."""

    name: str
    words: str
    arrays: dict | np.ndarray = field(repr=False)
    file: str = "data.npz"
    keys: dict = field(default_factory=dict)


def spoilt(array, place, value):
    array = array.copy()
    array[place] = value
    return array


GOOD = {"image": IMAGES, "label": LABELS}
SPLIT = {f"{split}/{name}": array for split in ("train", "test") for name, array in GOOD.items()}
REFUSED = [
    Refused(
        "lengths",
        r"fields of train have different numbers of samples: image 60, label 59",
        GOOD | {"label": LABELS[:59]},
    ),
    Refused("no samples", "train has no samples", {"image": IMAGES[:0], "label": LABELS[:0]}),
    Refused(
        "a field of one split",
        "test has no field label, train has",
        {n: a for n, a in SPLIT.items() if n != "test/label"},
    ),
    Refused(
        "another shape",
        r"samples of image are uint8\[5, 4, 3\] in train and uint8\[4, 4, 3\] in test",
        SPLIT | {"test/image": IMAGES[:, :4]},
    ),
    Refused(
        "another type",
        r"are uint8.* in train and float64.* in test",
        SPLIT | {"test/image": IMAGES / 1.0},
    ),
    Refused("no training set", "it has arrays of test, but none of train", {"test/image": IMAGES}),
    Refused(
        "half a split",
        r"label is of no split, but other arrays are of train\. Name it train/label",
        {"train/image": IMAGES, "label": LABELS},
    ),
    Refused(
        "a name too deep",
        r"it has an array named a/b/c\. Names are FIELD, train/FIELD",
        {"a/b/c": IMAGES},
    ),
    Refused("an unknown split", r"an array named valid/image\. Names are", {"valid/image": IMAGES}),
    Refused("objects", "it holds Python objects, which are pickled", {"image": np.array([{}, {}])}),
    Refused("objects in a file", "it holds Python objects", np.array([{}, {}]), "image.npy"),
    Refused(
        "texts", "label of train has the type <U1: texts", GOOD | {"label": LABELS.astype("U1")}
    ),
    Refused(
        "complex",
        "features of train has the type complex128",
        {"features": FEATURES * 1j, "label": LABELS},
    ),
    Refused(
        "byte order",
        r"has the byte order of another machine \(>f8\)",
        {"features": FEATURES.astype(">f8"), "label": LABELS},
    ),
    Refused("one number", "label of train is one number", GOOD | {"label": np.int64(1)}),
    Refused(
        "nan",
        r"features of train has nan in row 33.*dataset\.allow_nan=true",
        {"features": spoilt(FEATURES, (33, 2), np.nan), "label": LABELS},
    ),
    Refused(
        "infinity",
        "features of train has -inf in row 0",
        {"features": spoilt(FEATURES, (0, 0), -np.inf), "label": LABELS},
    ),
    Refused(
        "a negative label",
        "label of train has -1 in row 7, and must be in 0 … 3",
        GOOD | {"label": spoilt(LABELS, 7, -1)},
    ),
    Refused(
        "a label above its size",
        r"label .* 3 in row 3, and .* 0 … 2: label:3 is dataset\.sizes\. .* dataset\.sizes=\{label:4\}",
        GOOD,
        keys={"sizes": {"label": 3}},
    ),
    Refused(
        "a label that is not trained",
        r"label of test has 8 in row 5, .*: label:4 is the largest training value \+ 1\. .*\{label:9\}",
        SPLIT | {"test/label": spoilt(LABELS, 5, 8)},
    ),
    Refused(
        "a large integer",
        "label has 2147483648; JAX takes integers up to",
        GOOD | {"label": spoilt(LABELS, 5, 2**31)},
    ),
    Refused(
        "a size of no field",
        r"dataset\.sizes=\{marks:3\}: there is no field marks, only image, label",
        GOOD,
        keys={"sizes": {"marks": 3}},
    ),
    Refused(
        "moments of no field",
        r"dataset\.normalize=label: must be fields that the model takes: image",
        GOOD,
        keys={"normalize": ["label"]},
    ),
    Refused(
        "short sequences",
        r"tokens are int64\[1\] a sample; the next token needs 2",
        LABELS[:, None],
        "tokens.npy",
    ),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_arrays_that_are_no_data_set_are_refused(load, tmp_path, case):
    with pytest.raises(UserError, match=case.words) as refused:
        load(case.arrays, case.file, **case.keys)
    if not case.keys.keys() & {"sizes", "normalize"}:
        assert refused.value.key == "dataset.path"
        assert str(tmp_path) in str(refused.value.value)


@pytest.mark.parametrize("folds", [{}, {"folds": 3, "fold": 1}])
def test_large_files_are_mapped_scanned_once_and_never_read_whole(
    load, tmp_path, monkeypatch, folds
):
    small = load(GOOD, "small", **folds)
    monkeypatch.setattr(pipeline.data.sources.arrays.scans, "SMALL", 0)
    monkeypatch.setattr(pipeline.data.dataset, "LARGE", 500)
    monkeypatch.setattr(pipeline.data.dataset, "ROW", 0)
    arrays = GOOD | {"features": FEATURES}
    data = load(arrays, "folder", **folds)
    assert set(data.train.stored) == {"image", "features"}  # the labels are small
    for split, other in ((data.train, small.train), (data.test, small.test)):
        for name in ("image", "label"):
            np.testing.assert_array_equal(np.asarray(split.fields[name]), other.fields[name])
    np.testing.assert_array_equal(data.moments["image"], small.moments["image"])
    scans = {
        file: file.stat().st_mtime_ns for file in (tmp_path / "root/cache").glob("scan*/*.npy")
    }
    assert len(scans) == 3  # moments, limits of the labels, and whether all features are finite
    sources.load(ArraysConfig(path=str(tmp_path / "folder"), root=str(tmp_path / "root"), **folds))
    after = {
        file: file.stat().st_mtime_ns for file in (tmp_path / "root/cache").glob("scan*/*.npy")
    }
    assert after == scans


def test_nan_is_accepted_where_it_is_allowed(load):
    features = spoilt(FEATURES, (33, 2), np.nan)
    data = load({"features": features, "label": LABELS}, allow_nan=True)
    seen = [split.fields["features"] for split in (data.train, data.val, data.test)]
    assert np.isnan(np.concatenate(seen)).sum() == 1


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("", b"", r"dataset\.path='': must be a file or folder of arrays"),
        ("no.npz", None, "there is no such file or folder. Set dataset.path"),
        ("data.csv", b"1,2", "it is no .npy or .npz file"),
        ("empty", None, "this folder has no .npy or .npz file"),
        ("torn.npz", b"PK\3\4 torn", "it is no array that NumPy can read: File is not a zip file"),
        ("zero.npy", b"", "it is no array that NumPy can read: it is empty"),
        ("noise.npy", b"noise" * 9, "it is no array that NumPy can read: it has no header"),
    ],
)
def test_a_file_that_is_no_array_is_refused(tmp_path, file, content, words):
    (tmp_path / "empty").mkdir()
    if content is not None and file:
        (tmp_path / file).write_bytes(content)
    path = str(tmp_path / file) if file else ""
    with pytest.raises(UserError, match=words):
        sources.load(ArraysConfig(path=path, root=str(tmp_path / "root")))
    assert not list(Path(tmp_path).glob("root/cache/npz*v1"))


@pytest.mark.parametrize("keys", [{"test_fraction": 0.2}, {"folds": 4, "fold": 1}], ids=str)
def test_the_order_of_many_labels_is_computed_once_and_kept(load, monkeypatch, keys):
    scans, computed = pipeline.data.sources.arrays.scans, []
    arrays = {"features": np.arange(300.0), "label": np.arange(300) * 7 % 4}
    expected = load(arrays, **keys)
    monkeypatch.setattr(scans, "MANY", 100)
    monkeypatch.setattr(
        scans, "stratified_rows", lambda *given: computed.append(1) or stratified_rows(*given)
    )
    for _ in range(3):
        made = load(arrays, **keys)
        assert len(computed) == 2  # of all, and of those that are left
        for split in ("train", "val", "test"):
            found, wanted = (getattr(data, split).fields["features"] for data in (made, expected))
            np.testing.assert_array_equal(found, wanted)
