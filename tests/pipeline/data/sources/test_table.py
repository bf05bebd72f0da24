"""Tables: columns of numbers and categories, gaps, targets, splits, and what is refused."""

import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from pipeline.config.own_datasets import Missing, TableConfig
from pipeline.config.tasks import ClassificationConfig, MultilabelConfig, OwnTaskConfig
from pipeline.data import sources
from pipeline.data.dataset import Form
from pipeline.errors import UserError

ROWS = """size,colour,weight,kind,price
1,red,,a,10.5
2,blue,4,b,11
3,red,8,a,12
 4 ,green,NA,b,13
+5,red,6,a,14.25
6,,2,b,15
"""
VAL = "size,colour,weight,kind,price\n7,violet,4,b,9\n"


@pytest.fixture
def load(tmp_path):
    """A function that writes a table and loads it, with the cache in the test's own folder."""

    def loaded(content, name="a.csv", task=None, **keys):
        files = content if isinstance(content, dict) else {name: content}
        for file, text in files.items():
            if text is not None:
                path = tmp_path / file
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(text if isinstance(text, bytes) else text.encode())
        where = tmp_path / (name if len(files) == 1 else next(iter(files)).partition("/")[0])
        config = TableConfig(path=str(where), root=str(tmp_path / "root"), **keys)
        return sources.load(config, task)

    return loaded


def whole(data, field):
    """The values of a field in all splits, sorted."""
    splits = data.train, data.val, data.test
    return np.sort(np.concatenate([split.fields[field] for split in splits]), axis=0)


def folder(rows=ROWS, val=VAL):
    return {"t/train.csv": rows, "t/val.csv": val}


def test_numbers_are_filled_by_the_training_mean_and_categories_are_ones(load, capsys):
    data = load(folder(), targets=["price"])
    assert (data.name, data.task.name, data.form) == ("table", "regression", Form.vectors)
    blue, green, red = np.eye(3)
    none, weight = np.zeros(3), 5.0  # mean of 4, 8, 6 and 2
    expected = [(1, weight, red), (2, 4, blue), (3, 8, red), (4, weight, green), (5, 6, red)]
    kinds = np.eye(2)[[0, 1, 0, 1, 0, 1]]
    rows = [[size, w, *colour] for size, w, colour in [*expected, (6, 2, none)]]
    np.testing.assert_array_equal(data.train.fields["features"], np.c_[rows, kinds])
    assert data.val.fields["features"].tolist() == [[7, 4, 0, 0, 0, 0, 1]]
    assert data.train.fields["target"].ravel().tolist() == [10.5, 11, 12, 13, 14.25, 15]
    mean, std = data.moments["features"]
    assert mean.tolist() == [3.5, 5, 0, 0, 0, 0, 0]
    np.testing.assert_allclose(std, [np.std([1, 2, 3, 4, 5, 6]), np.sqrt(5), 1, 1, 1, 1, 1])
    assert data.test.fields["features"].tolist() == data.val.fields["features"].tolist()
    assert "no training row has are zeros: colour in 1 rows" in capsys.readouterr().out


def test_gaps_can_be_told_in_columns_beside(load):
    keys = {"columns": ["size", "weight"], "missing": Missing.indicate}
    data = load(folder(), targets=["price"], **keys)
    features = data.train.fields["features"]
    assert features.shape == (6, 3)
    assert features[:, 2].tolist() == [1, 0, 0, 1, 0, 0]
    assert data.moments["features"].mean.tolist() == [3.5, 5, 0]


def test_texts_and_booleans_are_classes_in_proportion_and_whole_numbers_are_if_asked_for(load):
    rows = [f"{row},{'yes' if row % 4 else 'no'},{row % 4 == 0},{row % 3 + 5}" for row in range(80)]
    table = "\n".join(["x,text,truth,number", *rows])
    data = load(table, targets=["text"], columns=["x"])
    assert (data.task.name, data.outputs, data.classes) == ("classification", 2, ("no", "yes"))
    for split in (data.train, data.val, data.test):
        assert abs(np.mean(split.fields["label"]) - 0.75) < 0.06
    for split in (data.train, data.val, data.test):
        x = split.fields["features"][:, 0]
        np.testing.assert_array_equal(split.fields["label"], x % 4 != 0)
    assert load(table, targets=["truth"], columns=["x"]).classes == ("False", "True")
    assert load(table, targets=["number"], columns=["x"]).task.name == "regression"
    for keys in (
        {"task": ClassificationConfig()},
        {"categorical": ["number"]},
    ):
        data = load(table, targets=["number"], columns=["x"], **keys)
        assert (data.outputs, data.classes) == (3, ("5", "6", "7"))
        x = data.train.fields["features"][:, 0]
        np.testing.assert_array_equal(data.train.fields["label"], x % 3)


def test_splits_are_a_column_or_folds_and_no_statistics_come_from_the_test(load):
    rows = [
        f"{row},{'train' if row < 6 else 'val' if row < 8 else 'test'},{row}" for row in range(9)
    ]
    table = "\n".join(["x,part,y", *rows])
    data = load(table, targets=["y"], split="part")
    assert [len(split) for split in (data.train, data.val, data.test)] == [6, 2, 1]
    assert data.moments["features"].mean.tolist() == [2.5]
    assert isinstance(data.train.fields["features"], np.memmap)
    tests = []
    for fold in range(3):
        data = load(table, targets=["y"], drop=["part"], folds=3, fold=fold, val_fraction=0)
        held_out = data.test.fields["features"].ravel().tolist()
        assert data.moments["features"].mean[0] == pytest.approx((36 - sum(held_out)) / 6)
        tests += held_out
    assert sorted(tests) == list(range(9))


def test_targets_of_an_unusual_scale_and_numbers_that_are_hardly_classes_are_named(load, capsys):
    table = "x,y,z\n" + "".join(f"{n},{1000 * n},{n % 3}\n" for n in range(20))
    load(table, targets=["y", "z"])
    said = " ".join(capsys.readouterr().out.split())
    assert "y, a target, has a standard deviation of 5" in said
    assert "z, a target" not in said
    load(table, targets=["y"], task=ClassificationConfig())
    said = " ".join(capsys.readouterr().out.split())
    assert "20 classes in 20 rows, most with one sample: did you mean task=regression?" in said
    load(table, targets=["z"], task=ClassificationConfig())
    assert "did you mean" not in capsys.readouterr().out


def test_several_targets_separators_and_the_cache(load, tmp_path):
    table = "a;b;c\n" + "".join(f"{n};{-n};{2 * n}\n" for n in range(20))
    data = load(table, targets=["b", "c"], separator=";")
    assert (data.outputs, data.task.name) == (2, "regression")
    assert whole(data, "target")[:, 1].tolist() == list(range(0, 40, 2))
    [cached] = (tmp_path / "root/cache").glob("table-*/numbers.npy")
    before = cached.stat().st_mtime_ns
    assert load(None, targets=["b", "c"], separator=";", limit=3).train.fields["target"].shape == (
        3,
        2,
    )
    assert cached.stat().st_mtime_ns == before
    assert load(None, targets=["b"], separator=";").outputs == 1  # of the same file
    tabs = load(table.replace(";", "\t"), "a.tsv", targets=["b"])
    assert whole(tabs, "features").shape == (20, 2)


def test_several_truth_values_are_labels(load):
    rows = [f"{n},{n % 2 == 0},{'yes' if n % 3 else 'no'},{n % 5 // 4},{n}" for n in range(60)]
    table = "\n".join(["x,even,third,fifth,number", *rows])
    keys = {"columns": ["x"], "targets": ["third", "even", "fifth"]}
    data = load(table, **keys)
    assert (data.task.name, data.outputs, data.classes) == (
        "multilabel",
        3,
        ("third", "even", "fifth"),
    )
    assert data.train.fields["labels"].dtype == np.uint8
    x = data.train.fields["features"][:, 0].astype(int)
    expected = np.c_[x % 3 > 0, x % 2 == 0, x % 5 == 4]
    np.testing.assert_array_equal(data.train.fields["labels"], expected)
    numbers = {"columns": ["x"], "targets": ["fifth", "number"]}
    assert load(table, **numbers).task.name == "regression"
    with pytest.raises(
        UserError, match=r"targets=\[even, number\]: number has numbers other than 0 and 1"
    ):
        load(table, columns=["x"], targets=["even", "number"])


def test_a_table_gives_the_targets_that_the_task_names(load):
    table = "x,y,z\n" + "".join(f"{n},{n % 2},{n % 3 // 2}\n" for n in range(200))
    fields = [
        (None, ["y"], {"target"}),
        (ClassificationConfig(), ["y"], {"label"}),
        (MultilabelConfig(), ["y"], {"labels"}),
        (MultilabelConfig(), ["y", "z"], {"labels"}),
        (OwnTaskConfig(targets=["label", "target"]), ["y"], {"label", "target"}),
    ]
    for task, targets, expected in fields:
        data = load(table, task=task, columns=["x"], targets=targets)
        assert data.train.fields.keys() - {"features"} == expected, task
        assert dict(data.sizes) == ({"label": 2} if "label" in expected else {})
    shares = [split.fields["label"].mean() for split in (data.train, data.val, data.test)]
    assert max(shares) - min(shares) < 0.02  # classes are in proportion in all splits
    with pytest.raises(
        UserError, match=r"each sample needs label \[\], .* features \[1\], target \[2\]"
    ):
        load(table, task=ClassificationConfig(), columns=["x"], targets=["y", "z"])


def test_a_long_file_is_read_in_parts(load, monkeypatch):
    rows = [f"{row}.5,{'ab'[row % 2]},{row}" for row in range(500)]
    table = "\n".join(["x,kind,y", *rows])
    data = load(table, "whole.csv", targets=["y"])
    monkeypatch.setattr("pipeline.data.sources.table.files.BLOCK", 200)
    monkeypatch.setattr("pipeline.data.sources.table.features.PART", 64)
    in_parts = load(table, "parts.csv", targets=["y"])
    for name in ("features", "target"):
        np.testing.assert_array_equal(in_parts.train.fields[name], data.train.fields[name])
        assert len(whole(in_parts, name)) == 500
    with pytest.raises(UserError, match=r"bad\.csv: x has the text 'bad' in row 400"):
        load(table.replace("399.5", "bad"), "bad.csv", targets=["y"])


def test_parquet_has_types_of_its_own(load, tmp_path):
    table = pyarrow.table(
        {
            "x": pyarrow.array([1, None, 3, 4] * 5, pyarrow.int32()),
            "code": [1, 2, 1, 2] * 5,
            "word": pyarrow.array(["1", "b", None, "1"] * 5).dictionary_encode(),
            "is": [True, False, True, False] * 5,
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    data = load(None, "a.parquet", targets=["is"], categorical=["code"])
    assert data.classes == ("false", "true")
    assert data.train.fields["features"].shape == (16, 5)  # x, 1 and 2 of code, 1 and b of word
    features = data.train.fields["features"]
    np.testing.assert_array_equal(features[:, 1], data.train.fields["label"])
    assert data.moments["features"].mean[1:].tolist() == [0, 0, 0, 0]


X = {"targets": ["y"]}
REFUSE, SPLIT = X | {"missing": Missing.refuse}, X | {"split": "s"}
NAMES = "x,y\n" + "".join(f"w{n},{n}\n" for n in range(1001))


@pytest.mark.parametrize(
    ("content", "keys", "words"),
    [
        ({"no.csv": None}, X, r"no\.csv: there is no such file or folder"),
        ({"my.cvs": None, "my.csv": "x"}, X, r"my\.cvs: there is no .*\. Did you mean my\.csv\? Set"),
        ({"a.txt": "x,y\n"}, X, "a.txt: it is no .csv, .tsv or .parquet file"),
        ({"t/val.csv": "x,y\n", "t/b.csv": ""}, X, "this folder has no train.csv"),
        ("", X, "a.csv: it is empty"),
        ("x,y\n", X, "a.csv: it has no rows"),
        ("x,y\n1,2\n3\n", X, "a.csv: it cannot be read: .*Row #3: Expected 2 columns, got 1"),
        (b"x,y\n1,\xff\n", X, "a.csv: it cannot be read: .*invalid UTF8"),
        ("x;y\n1;2\n", X, r"""has one column: x;y\. Set dataset\.separator='";"'"""),
        ("x;y\n1,5;2\n", X, "Row #2: Expected 1 columns, got 2: .*Set dataset.separator"),
        ("x,y\n1,2\n", X | {"separator": "ab"}, "dataset.separator=ab: must be one character"),
        ("1,2\n3,4\n", X, "first line has numbers, not names of columns: 1, 2"),
        ("x,x,y\n3,4,5\n", X, "it has two columns x"),
        ("price,y\n1,2\n", {"targets": ["prise"]}, "targets=prise: .*only price, y. Did you mean price"),
        ("x,y\n1,2\n", {}, r"dataset\.targets=\[\]: must be one or more of the columns: x, y"),
        ("x,y\n1,2\n", X | {"columns": ["z"]}, r"dataset\.columns=z: the table has no such column"),
        ("x,y\n1,2\n", X | {"columns": ["y"]}, r"dataset\.columns=y: it is a column of dataset\.targets"),
        ("x,y\n1,2\n", X | {"drop": ["y"]}, r"dataset\.drop=y: it is a column of dataset\.targets"),
        ("x,y\n1,2\n", X | {"columns": ["x", "x"]}, r"dataset\.columns=x: it is there twice"),
        ("x,y\n1,2\n", X | {"split": "y"}, r"dataset\.split=y: it is a column of dataset\.targets"),
        ("x,y\n1,2\n", X | {"drop": ["x"]}, "no column is left for the model among x, y"),
        ("x,y\n1,2\n1,\n", X, r"a\.csv: y, a target, is missing in row 2\..*no key leaves rows out"),
        ("x,y\n1,2\n2,3\n,4\n", REFUSE, "a.csv: x is missing in row 3. .*dataset.missing=mean"),
        ("x,y\n1,2\n2,3\nbad,4\n", X, r"csv: x has the text 'bad' in row 3, among .*categorical=\[x\]"),
        ("x,y\n1,2\ninf,3\n", X, "a.csv: x has inf in row 2"),
        ("x,y\n1,2\n2,2\n", X, r"dataset\.targets=\[y\]: y is 2 in all rows of training"),
        ("x,y\n1,a\n2,a\n", X, r"dataset\.targets=\[y\]: all rows of training are of one class: a"),
        ("x,y,z\n1,a,1\n2,b,2\n", {"targets": ["y", "z"]}, "targets=y: it has categories, and several"),
        ("x,s,y\n1,train,2\n2,dev,3\n", SPLIT, r"'dev' in row 2 .*val, test\. .*leave .*test_fraction"),
        ("x,s,y\n1,val,2\n2,test,3\n", SPLIT, "dataset.split=s: no row of it is train"),
        ("x,s,y\n1,train,a\n1,train,b\n2,test,c\n", SPLIT, "the class c has no row of training"),
        ({"t/train.csv": "x,y\n1,2\n2,3\n", "t/val.csv": "z,y\n1,2\n"}, X, "x: val.csv has no such column"),
        ({"t/train.csv": "x,y\n1,2\n2,3\n", "t/val.csv": "x,y\nno,2\n"}, X, "val.csv: x has the text 'no'"),
        ({"t/train.csv": "s,y\n1,2\n2,3\n", "t/val.csv": ""}, SPLIT, "split=s: the folder has"),
        (NAMES, X, r"dataset\.columns=x: it has more than 1,000 .* such as 'w0'.*drop=\[x\]"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_used_are_refused(load, content, keys, words):
    name = next(iter(content)) if isinstance(content, dict) else "a.csv"
    with pytest.raises(UserError, match=words):
        load(content, name, **keys)


def test_a_column_of_dates_and_a_library_that_is_not_there_are_refused(load, tmp_path, monkeypatch):
    days = pyarrow.array([1, 2], pyarrow.date32())
    pyarrow.parquet.write_table(pyarrow.table({"d": days, "y": [1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"the column d has the type date32.*dataset\.drop=\[d\]"):
        load(None, "a.parquet", targets=["y"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        UserError, match=r"dataset=table: it needs pyarrow, which .*\. pip install pyarrow"
    ):
        load("x,y\n1,2\n", targets=["y"])
