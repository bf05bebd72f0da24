"""A user's own data, by a function: what it may return, and what is refused."""

import numpy as np
import pytest

from pipeline.config.own_datasets import OwnDataConfig
from pipeline.config.tasks import TASKS
from pipeline.data import sources
from pipeline.data.dataset import Data
from pipeline.errors import UserError

MODULE = """
import numpy as np
from pipeline.data.dataset import Data, Split
from pipeline.tasks import Classification

def arrays(count=40, classes=3):
    places = np.arange(count)
    return {"features": places[:, None] * np.ones(5), "label": places % classes}

def lists():
    return {"features": [[1.0, 2.0]] * 20, "target": [0.5] * 20}

def splits():
    return {"train": arrays(30), "test": arrays(12)}

def whole():
    split = Split(arrays(9))
    return Data("mine", Classification(), split, split, split, {"label": 3}, {})

def nothing(): ...
def fails(count): raise KeyError(f"no {count}")
def ends(): raise SystemExit(3)
def valid(): return splits() | {"valid": arrays(4)}
def mixed(): return splits() | {"label": np.zeros(4)}
def empty(): return {}
def none_in_split(): return {"train": {}}
def odd_name(): return {"my image": np.zeros(9), "label": np.zeros(9, int)}
def ragged(): return {"features": [[1], [1, 2]], "label": [0, 1]}
def unequal(): return arrays() | {"label": np.zeros(3, int)}
number = 3
"""


@pytest.fixture(scope="module", autouse=True)
def module(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_arrays.py").write_text(MODULE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield


def load(function, **keys):
    config = OwnDataConfig(load=f"own_arrays:{function}", root="", **keys)
    return sources.load(config, TASKS["auto"]())


def test_arrays_by_name_are_split_here():
    data = load("arrays", options={"count": 60}, val_fraction=0.2, test_fraction=0.2)
    assert (data.name, data.task.name, data.outputs) == ("own", "classification", 3)
    splits = (data.train, data.val, data.test)
    assert [len(split) for split in splits] == [38, 10, 12]
    seen = np.concatenate([split.fields["features"][:, 0] for split in splits])
    assert sorted(seen) == list(range(60))
    assert (data.train.fields["label"] == data.train.fields["features"][:, 0] % 3).all()
    folds = [load("arrays", folds=4, fold=fold).test for fold in range(4)]
    assert sorted(np.concatenate([fold.fields["features"][:, 0] for fold in folds])) == [*range(40)]


def test_lists_are_arrays_and_one_number_a_sample_is_a_column():
    data = load("lists")
    assert (data.task.name, data.outputs) == ("regression", 1)
    assert data.train.fields["target"].shape == (16, 1)


def test_splits_stay_as_they_are():
    data = load("splits", val_fraction=0.1)
    assert [len(split) for split in (data.train, data.val, data.test)] == [27, 3, 12]


def test_a_data_stays_as_it_is():
    data = load("whole", limit=5)
    assert isinstance(data, Data)
    assert (data.name, len(data.train), len(data.test)) == ("mine", 5, 9)
    with pytest.raises(UserError, match=r"dataset\.folds=3: own_arrays:whole returns a Data"):
        load("whole", folds=3, fold=0)


def test_the_task_is_known_before_a_run():
    config = OwnDataConfig(load="own_arrays:lists", root="")
    assert sources.task_of(config, TASKS["auto"]()).name == "regression"


@pytest.mark.parametrize(
    ("function", "keys", "words"),
    [
        ("nothing", {}, r"it returns NoneType\. Return arrays by name, such as"),
        ("fails", {}, r"it fails: TypeError.*missing.*count"),
        (
            "fails",
            {"options": {"count": 7}},
            r"KeyError: 'no 7' .*It is called as fails\(count=7\)",
        ),
        ("ends", {}, "it fails: SystemExit: 3"),
        ("absent", {}, "own_arrays.*has no absent"),
        ("number", {}, "it is no function"),
        ("valid", {}, "it returns a mapping with train, test, valid"),
        ("mixed", {}, "it returns a mapping with train, test, label"),
        ("empty", {}, "it returns an empty mapping"),
        ("none_in_split", {}, "it returns a split without fields"),
        ("odd_name", {}, "a field named 'my image', which is no name"),
        ("ragged", {}, "its features is a list, and no array: ValueError"),
        ("unequal", {}, "different numbers of samples: features 40, label 3"),
        ("arrays", {"options": {"classes": -4}}, "label of train has -3 in row 1, and must be in"),
    ],
)
def test_a_function_that_returns_no_data_set_is_refused(function, keys, words):
    with pytest.raises(UserError, match=rf"dataset\.load=own_arrays:{function}: .*{words}"):
        load(function, **keys)


def test_a_function_has_to_be_named():
    with pytest.raises(UserError, match=r"dataset\.load=null: must be your function\. Set dataset"):
        sources.load(OwnDataConfig(root=""))
