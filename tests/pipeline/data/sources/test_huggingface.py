"""Data sets of `datasets`: columns as fields, splits, lists, images, and what is refused."""

import io
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from image_folders import write_images
from PIL import Image as Picture

from pipeline.config.column_datasets import HuggingfaceConfig
from pipeline.config.datasets import FolderConfig
from pipeline.config.tasks import (
    LanguageConfig,
    MaskedLanguageConfig,
    MultilabelConfig,
    OwnTaskConfig,
    RegressionConfig,
    SegmentationConfig,
)
from pipeline.data import sources
from pipeline.data.image_augmentation import sample_words
from pipeline.data.sources.channel_stats import stored_moments
from pipeline.errors import UserError

datasets = pytest.importorskip("datasets")
datasets.disable_progress_bars()

ROWS = 600  # more than are read at once
N = np.arange(ROWS)


def picture(row, mode="RGB", size=(10, 8)):
    colour = int(row) % 256
    return Picture.new(mode, size, (colour, 0, 0) if mode == "RGB" else colour)


COLUMNS = {
    "picture": (datasets.Image(), [picture(row, "L" if row < 5 else "RGB") for row in N]),
    "mask": (datasets.Image(), [picture(row % 3, "L") for row in N]),
    "kind": (datasets.ClassLabel(names=["b", "a", "none"]), (N % 2).tolist()),
    "tags": (datasets.List(datasets.ClassLabel(names=["x", "y"])), [[0, 1][: n % 3] for n in N]),
    "ids": (datasets.List(datasets.Value("int32")), [list(range(1, n % 5 + 1)) for n in N]),
    "others": (datasets.List(datasets.Value("int64")), [[n % 7] for n in N]),
    "pair": (datasets.List(datasets.Value("float32"), length=2), [[n, -n] for n in N]),
    "loose": (datasets.List(datasets.Value("float64")), [[n, n, n] for n in N]),
    "grid": (datasets.Array2D((2, 3), "float32"), [np.full((2, 3), n, "f4") for n in N]),
    "x": (datasets.Value("float32"), [n / 2 for n in N]),
    "count": (datasets.Value("int64"), (N % 4).tolist()),
    "truth": (datasets.Value("bool"), (N % 3 == 0).tolist()),
    "word": (datasets.Value("string"), [("no", "yes", "é")[n % 3] for n in N]),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder with the columns and splits `train` and `validation`, as save_to_disk writes it."""
    folder = tmp_path_factory.mktemp("hub") / "a set é"
    features = datasets.Features({name: feature for name, (feature, _) in COLUMNS.items()})
    rows = {name: cells for name, (_, cells) in COLUMNS.items()}
    whole = datasets.Dataset.from_dict(rows, features=features)
    parts = {"train": whole, "validation": whole.select(range(20))}
    datasets.DatasetDict(parts).save_to_disk(folder)
    return folder


@pytest.fixture
def load(saved, tmp_path):
    """A function that loads columns of the folder, with the cache in the test's own folder."""

    def loaded(columns=None, targets=None, task=None, path=saved, **keys):
        config = HuggingfaceConfig(
            path=str(path), root=str(tmp_path), columns=columns, targets=targets, **keys
        )
        return sources.load(config, task)

    return loaded


OWN = OwnTaskConfig(inputs=["x"], targets=["pair"])


@pytest.mark.parametrize(
    ("columns", "targets", "task", "expected"),
    [
        (["pair", "x", "truth"], ["kind"], None, {"features": (4, "f8"), "label": ("i8",)}),
        (["pair"], ["x", "count"], None, {"features": (2, "f4"), "target": (2, "f8")}),
        (["loose"], ["word"], None, {"features": (3, "f8"), "label": ("i8",)}),
        (["loose"], ["truth", "kind"], None, None),
        (["x"], ["count"], None, {"features": (1, "f4"), "label": ("i8",)}),
        (["x"], ["count"], RegressionConfig(), {"features": (1, "f4"), "target": (1, "f8")}),
        (["x"], ["tags"], None, {"features": (1, "f4"), "labels": (2, "u1")}),
        (["x"], ["truth"], MultilabelConfig(), {"features": (1, "f4"), "labels": (1, "u1")}),
        (["grid"], ["x"], None, {"grid": (2, 3, "f4"), "target": (1, "f8")}),
        (["ids"], ["others"], None, {"source": (4, "i4"), "target": (1, "i8")}),
        (["ids"], ["others"], LanguageConfig(), {"tokens": (4, "i4"), "next": (1, "i8")}),
        (["ids"], [], None, {"tokens": (3, "i4"), "next": (3, "i4")}),
        (["ids"], [], MaskedLanguageConfig(), {"tokens": (4, "i4")}),
        (["picture"], ["mask"], SegmentationConfig(), {"image": (8, 10, 3, "u1"), "mask": (8, 10, "u1")}),
        (["x", "ids"], ["pair"], OWN, {"x": (1, "f4"), "pair": (2, "f4")}),
    ],
)  # fmt: skip
def test_columns_become_fields_by_their_kind(load, columns, targets, task, expected):
    if expected is None:
        with pytest.raises(
            UserError, match=r"kind: it has classes, and several targets must all be"
        ):
            load(columns, targets, task)
        return
    data = load(columns, targets, task)
    fields = data.train.fields
    found = {name: (*field.shape[1:], field.dtype.str[1:]) for name, field in fields.items()}
    assert found == expected
    assert (len(data.train), len(data.val)) == (ROWS, 20)
    assert all(isinstance(field, np.memmap) for field in fields.values())


def test_the_values_are_those_of_the_columns(load):
    data = load(["ids", "pair"], ["word"])
    assert (data.classes, data.outputs) == (("no", "yes", "é"), 3)
    np.testing.assert_array_equal(data.train.fields["label"], N % 3)
    np.testing.assert_array_equal(data.train.fields["features"], np.c_[N, -N])
    expected = np.where(np.arange(4) < N[:, None] % 5, np.arange(1, 5), 0)
    np.testing.assert_array_equal(data.train.fields["tokens"], expected)
    short = load(["ids"], ["kind"], length=2, padding=9)
    assert short.train.fields["tokens"][:4].tolist() == [[9, 9], [1, 9], [1, 2], [1, 2]]
    assert (short.sizes["label"], short.sizes["tokens"], short.classes) == (
        3,
        10,
        ("b", "a", "none"),
    )
    tags = load(["grid"], ["tags"]).train.fields
    np.testing.assert_array_equal(tags["labels"], np.c_[N % 3 > 0, N % 3 > 1])
    np.testing.assert_array_equal(tags["grid"][:, 1, 2], N)


def test_images_of_grey_and_colour_are_in_colour_and_masks_keep_their_classes(load):
    fields = load(["picture"], ["mask"], size=4).train.fields
    image, mask = fields["image"], fields["mask"]
    assert (image.shape, mask.shape) == ((ROWS, 4, 4, 3), (ROWS, 4, 4))
    np.testing.assert_array_equal(image[:, 2, 1, 0], N % 256)
    np.testing.assert_array_equal(image[:5, 2, 1, 1], N[:5])
    assert (image[5:, ..., 1:] == 0).all()
    np.testing.assert_array_equal(mask[:, 3, 3], N % 3)


def test_with_a_scale_images_of_any_size_are_kept_and_cropped_as_those_of_a_folder(load, tmp_path):
    write_images(tmp_path / "images", {"a": 12, "b": 12})
    grey = Picture.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30))
    grey.save(tmp_path / "images" / "b" / "grey.png")
    files = sorted((tmp_path / "images").rglob("*.[jp]*"))
    rows = {"picture": [{"bytes": file.read_bytes(), "path": None} for file in files]}
    rows["kind"] = [int(file.parent.name == "b") for file in files]
    features = {"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["a", "b"])}
    whole = datasets.Dataset.from_dict(rows, features=datasets.Features(features))
    whole.save_to_disk(tmp_path / "set")
    keys = {"size": 8, "scale": [0.3, 0.9], "ratio": [0.5, 2.0], "jitter": [0.4, 0.2, 0.1]}
    keys |= {"store": 14, "val_fraction": 0.0, "test_fraction": 0.2}
    data = load(["picture"], path=tmp_path / "set", **keys)
    config = FolderConfig(root=str(tmp_path / "images"), cache=str(tmp_path), **keys)
    train, test = data.train.fields, data.test.fields
    every = np.arange(len(files))  # both list the files by name, and draw other rows for the test
    ours, theirs = (
        replace(one.train.fields["image"], rows=every) for one in (data, sources.load(config, None))
    )
    assert len({ours.file[row].shape for row in every}) > 3
    words = sample_words(1, 2, every)
    for drawn in (words, None):
        np.testing.assert_array_equal(ours.take(every, drawn), theirs.take(every, drawn))
    assert len({image.tobytes() for image in ours.take(every, words)}) == len(files)
    np.testing.assert_array_equal(stored_moments(ours), stored_moments(theirs))
    np.testing.assert_array_equal(data.moments["image"], stored_moments(train["image"]))
    for fields in (train, test):
        kinds = np.array(rows["kind"])[fields["image"].rows]
        np.testing.assert_array_equal(fields["label"], kinds)
    unscaled = load(["picture"], path=tmp_path / "set", normalize=[], **keys)
    np.testing.assert_array_equal(unscaled.moments["image"].std, 1)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"scale": [0.1, 1.0]}, r"dataset\.size=null: must be set, together with dataset\.scale"),
        ({"jitter": [0.1, 0, 0]}, r"dataset\.jitter=.*left out without dataset\.scale\. Set"),
        ({"store": 9}, r"dataset\.store=9: must be left out without dataset\.scale"),
        ({"scale": [0.1, 1.0], "size": 9, "store": 8}, r"store=8: must be null or at least"),
        (
            {"scale": [1.0, 0.1], "size": 9},
            r"scale=\[1\.0, 0\.1\]: must be null or \[lowest, highest\]",
        ),
        (
            {"scale": [0.1, 1.0], "size": 9, "columns": ["x"]},
            "no column has images to crop, only x, kind",
        ),
        (
            {"scale": [0.1, 1.0], "size": 9, "targets": ["mask"]},
            "masks of a column are not cropped",
        ),
    ],
)
def test_crops_that_are_not_possible_are_refused(load, keys, words):
    with pytest.raises(UserError, match=words):
        load(**{"columns": ["picture"], "targets": ["kind"]} | keys)


def test_the_decoded_set_needs_neither_the_library_nor_a_second_reading(
    load, saved, tmp_path, monkeypatch
):
    data = load(["x"], ["kind"])
    [cached] = (tmp_path / "cache").glob("huggingface-*-v1")
    monkeypatch.setitem(sys.modules, "datasets", None)
    again = load(["x"], ["kind"], limit=5)
    np.testing.assert_array_equal(again.val.fields["label"], data.val.fields["label"])
    with pytest.raises(
        UserError,
        match=r"=huggingface: it needs datasets, which is not installed\. pip install dat",
    ):
        load(["pair"], ["kind"])
    (tmp_path / "datasets.py").write_text("import a_package_of_datasets.part\n")
    monkeypatch.delitem(sys.modules, "datasets")
    monkeypatch.syspath_prepend(tmp_path)
    words = (
        r"datasets, and this a_package_of_datasets, which is not .*pip install a_package_of_data"
    )
    with pytest.raises(UserError, match=words):
        load(["pair"], ["kind"])
    assert [cached] == [*(tmp_path / "cache").glob("huggingface-*-v1")]


def test_no_framework_is_loaded(saved, tmp_path):
    code = (
        "import sys\n"
        "from pipeline.config.column_datasets import HuggingfaceConfig\n"
        "from pipeline.data import sources\n"
        "sources.load(HuggingfaceConfig(path=sys.argv[1], root=sys.argv[2], columns=['picture']))\n"
        "print(sorted({'torch', 'jax', 'tensorflow'} & {*sys.modules}))\n"
    )
    command = [sys.executable, "-c", code, str(saved), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_one_split_is_cut_by_fractions_with_classes_in_proportion(load, tmp_path):
    rows = {"x": (N / 3).tolist(), "label": (N % 2).tolist()}
    datasets.Dataset.from_dict(rows).save_to_disk(tmp_path / "one")
    data = load(path=tmp_path / "one")
    assert (data.task.name, data.inputs) == ("classification", ("features",))
    assert [len(split) for split in (data.train, data.val, data.test)] == [486, 54, 60]
    assert {split.fields["label"].mean() for split in (data.train, data.val, data.test)} == {0.5}


def write(folder, **columns):
    """Write a set of one split, from pairs of a feature and the cells."""
    features = datasets.Features({name: feature for name, (feature, _) in columns.items()})
    rows = {name: cells for name, (_, cells) in columns.items()}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(folder)


def png(picture):
    stream = io.BytesIO()
    picture.save(stream, format="png")
    return {"bytes": stream.getvalue(), "path": None}


NUMBERS = (datasets.Value("float64"), [1.0, 2.0, 3.0, 4.0])
KINDS = (datasets.ClassLabel(names=["a", "b"]), [0, 1, 0, 1])
IMAGES, LISTS = datasets.Image(), datasets.List(datasets.Value("float64"))
BAD = {
    "hole": {"x": (datasets.Value("int64"), [1, None, 3, 4]), "label": KINDS},
    "nan": {"x": (datasets.Value("float64"), [1.0, None, 3.0, 4.0]), "label": KINDS},
    "unlabelled": {"x": NUMBERS, "label": (datasets.ClassLabel(names=["a"]), [-1] * 4)},
    "ragged": {"x": (LISTS, [[1.0], [1.0, 2.0]] * 2), "label": KINDS},
    "sizes": {"image": (IMAGES, [png(picture(0)), png(picture(0, size=(3, 2)))] * 2), "label": KINDS},
    "broken": {"image": (IMAGES, [png(picture(0)), {"bytes": b"no", "path": None}] * 2), "label": KINDS},
    "deep": {"image": (IMAGES, [png(picture(0, "I;16"))] * 4), "label": KINDS},
    "texts": {"text": (datasets.Value("string"), list("abcd")), "label": KINDS},
    "dates": {"x": NUMBERS, "label": (datasets.Value("date32"), [None] * 4)},
    "colours": {"image": (IMAGES, [png(picture(0))] * 4), "mask": (IMAGES, [png(picture(0))] * 4)},
    "empty": {"x": (NUMBERS[0], []), "label": (KINDS[0], [])},
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "keys", "words"),
    [
        ("hole", {}, r"dataset\.columns=x: it is missing in row 1 of train"),
        ("nan", {}, r"features of train has nan in row 1"),
        ("unlabelled", {}, r"dataset\.splits=\{\}: all labels of train are -1"),
        (
            "ragged",
            {},
            r"dataset\.columns=x: rows 0 … of train have other numbers of values than 1",
        ),
        ("sizes", {}, r"dataset\.size=null: images of image are 10 × 8 pixels, in row 1 3 × 2"),
        ("broken", {}, r"dataset\.columns=image: its image in row 1 cannot be decoded"),
        ("deep", {}, r"its image in row 0 has more than 8 bits a pixel \(mode I;16\)"),
        ("texts", {}, r"no column is left for the model: beside \[label\] there is text \(texts\)"),
        ("texts", {"columns": ["text"]}, r"dataset\.columns=text: .* texts, .*map\(\)"),
        ("dates", {}, r"dataset\.targets=label: this column has Value\('date32'\)"),
        ("colours", {}, r"its image in row 0 has the mode RGB; a mask has classes"),
        ("empty", {}, "datasets cannot read it: IndexError"),
        ("nan", {"columns": ["y"]}, r"dataset\.columns=y: there is no such column, only x, label"),
        ("nan", {"targets": ["labl"]}, r"dataset\.targets=labl: .*Did you mean label\?"),
        ("nan", {"columns": ["label"]}, r"columns=label: it is a column of dataset\.targets, too"),
        ("nan", {"splits": {"test": "dev"}}, r"splits=\{test:dev\}: .* no split dev, only train"),
        ("nan", {"splits": {"tets": "train"}}, "splits=tets: must be names for train, val or test"),
        ("", {}, r"dataset\.path='': must be a folder that save_to_disk has written, or a name"),
        ("/no/such", {}, r"path=/no/such: there is no such folder"),
        ("nobody/nothing", {}, r"no such folder, and no copy .* Type dataset\.download=true"),
        (
            "nobody/nothing",
            {"revision": "1a2b"},
            r"revision=1a2b: only the hub tells revisions apart",
        ),
    ],
)
def test_what_cannot_be_fields_is_refused(load, tmp_path, name, keys, words):
    path = name
    if name in BAD:
        path = tmp_path / name
        write(path, **BAD[name])
    with pytest.raises(UserError, match=words):
        load(path=path, **keys)


def test_splits_must_have_the_same_columns_with_the_same_classes(load, tmp_path):
    def one(name, classes):
        features = datasets.Features(
            {name: NUMBERS[0], "label": datasets.ClassLabel(names=classes)}
        )
        return datasets.Dataset.from_dict({name: NUMBERS[1], "label": KINDS[1]}, features=features)

    for name, classes, words in (
        ("y", ["a", "b"], "columns=x: the split test has no such column, only y, label"),
        ("x", ["b", "a"], "columns=label: it has classes b, a in test, and classes a, b in train"),
    ):
        parts = {"train": one("x", ["a", "b"]), "test": one(name, classes)}
        datasets.DatasetDict(parts).save_to_disk(tmp_path / name)
        with pytest.raises(UserError, match=words):
            load(path=tmp_path / name)


def test_a_copy_of_the_hub_is_read_without_a_network(load, tmp_path):
    rows = {"x": (N / 3).tolist(), "label": (N % 2).tolist()}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "a.parquet")
    cache = tmp_path / "huggingface"
    datasets.load_dataset("parquet", data_files=str(tmp_path / "a.parquet"), cache_dir=str(cache))
    [copy] = (cache / "parquet").glob("*/0.0.0/*/")
    target = cache / "nobody___shapes/default/0.0.0" / ("0" * 40)
    target.parent.mkdir(parents=True)
    copy.rename(target)
    (target / "parquet-train.arrow").rename(target / "shapes-train.arrow")
    data = load(path="nobody/shapes")
    assert [len(split) for split in (data.train, data.val, data.test)] == [486, 54, 60]


def test_a_damaged_folder_is_named(load, saved, tmp_path):
    shutil.copytree(saved, tmp_path / "copy")
    next((tmp_path / "copy/train").glob("*.arrow")).write_bytes(b"no arrow")
    with pytest.raises(UserError, match=r"dataset\.path=.*copy: datasets cannot read it"):
        load(path=tmp_path / "copy")
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match=r"bare: it has no dataset_dict\.json or state\.json"):
        load(path=tmp_path / "bare")
