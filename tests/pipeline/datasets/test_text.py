"""Text: every file's bytes in windows, each target the byte after its input, no split in another."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import datasets
from pipeline.config import TextConfig
from pipeline.datasets import Form, Task
from pipeline.datasets.text import library, split_text
from pipeline.errors import UserError
from pipeline.plan import data_plan


def splits(data):
    return data.train, data.val, data.test


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


@pytest.fixture
def load(tmp_path):
    """A function that loads a text with its cache below the test's own folder."""
    return lambda **keys: datasets.load(TextConfig(root=str(tmp_path / "root"), **keys))


@given(st.integers(1, 40), st.integers(4, 80), st.integers(0, 40), st.floats(0.01, 0.5))
def test_every_target_is_the_byte_after_its_input_and_the_splits_share_none(
    length, windows, extra, test_fraction
):
    size = windows * (length + 1) + extra
    text = np.arange(size, dtype=np.uint32)  # each byte tells its place
    config = TextConfig(length=length, test_fraction=test_fraction)
    training, test = split_text(text, config)
    seen = [np.c_[split.inputs, split.targets[:, -1:]] for split in (training, test)]
    for split, windows in zip((training, test), seen, strict=True):
        assert split.inputs.shape == split.targets.shape == (len(split), length)
        np.testing.assert_array_equal(split.targets, split.inputs + 1)
        assert np.shares_memory(split.inputs, text) & np.shares_memory(split.targets, text)
        np.testing.assert_array_equal(windows.ravel(), np.arange(windows.size) + windows[0, 0])
    used = np.concatenate(seen).ravel()
    np.testing.assert_array_equal(used, np.arange(size // (length + 1) * (length + 1)))


def test_a_text_is_cut_into_a_training_a_validation_and_a_test_block(load, tmp_path):
    text = bytes(range(256)) * 10
    data = load(path=written(tmp_path / "a.txt", text), length=15)
    assert (data.name, data.task, data.outputs) == ("text", Task.language, 256)
    assert [len(split) for split in splits(data)] == [130, 14, 16]
    joined = [np.c_[split.inputs, split.targets[:, -1:]].tobytes() for split in splits(data)]
    assert b"".join(joined) == text
    assert {split.form for split in splits(data)} == {Form.tokens}
    assert data.values_per_sample == 15


def test_the_windows_are_views_of_one_file_that_is_mapped(load, tmp_path):
    data = load(path=written(tmp_path / "a.txt", bytes(1000)), length=9, limit=20)
    arrays = [part for split in splits(data) for part in (split.inputs, split.targets)]
    for array in arrays:
        assert isinstance(array, np.memmap)
        assert (array.dtype, array.flags.writeable) == (np.uint8, False)
    assert len({Path(array.filename) for array in arrays}) == 1
    assert len(data.train) == 20
    assert np.shares_memory(data.train.inputs, data.train.targets)
    assert not np.shares_memory(data.train.targets, data.val.inputs)
    assert not np.shares_memory(data.val.targets, data.test.inputs)


def test_the_files_of_a_folder_are_joined_in_the_order_of_their_names(load, tmp_path):
    folder = tmp_path / "texts"
    for name, letter in (("b.txt", b"b"), ("a.txt", b"a"), ("c/d.txt", b"d"), ("e.md", b"e")):
        written(folder / name, letter * 6)

    def text(pattern):
        data = load(path=str(folder), pattern=pattern, length=1, val_fraction=0.2)
        return b"".join(np.c_[split.inputs, split.targets].tobytes() for split in splits(data))

    assert text("*.txt") == b"aaaaaabbbbbb"
    assert text("**/*.txt") == b"aaaaaabbbbbbdddddd"
    assert text("*.md") == b"eeeeee"


def test_only_the_first_bytes_are_used_where_asked(load, tmp_path):
    for name in ("a.txt", "b.txt"):
        written(tmp_path / "texts" / name, name[:1].encode() * 50)
    data = load(path=str(tmp_path / "texts"), length=9, max_bytes=70)
    assert sum(map(len, splits(data))) == 7
    assert bytes(data.test.inputs[0]) == b"b" * 9
    assert bytes(data.train.inputs[0]) == b"a" * 9


def test_an_edited_file_is_another_text_and_the_same_one_is_not_written_again(load, tmp_path):
    path = written(tmp_path / "a.txt", b"one " * 100)
    caches = tmp_path / "root" / "cache"
    assert bytes(load(path=path, length=7).train.inputs[0]) == b"one one"
    (first,) = caches.glob("*/text.npy")
    before = first.stat().st_mtime_ns
    load(path=path, length=11, val_fraction=0.3)  # other windows of the same bytes
    assert [(file, file.stat().st_mtime_ns) for file in caches.glob("*/text.npy")] == [
        (first, before)
    ]
    stat = os.stat(path)
    written(tmp_path / "a.txt", b"two " * 100)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as long, and as old
    assert bytes(load(path=path, length=7).train.inputs[0]) == b"two two"
    assert len(list(caches.glob("*/text.npy"))) == 2


def test_without_a_held_out_part_validation_is_the_training_set(load, tmp_path):
    data = load(path=written(tmp_path / "a.txt", bytes(40)), length=9, val_fraction=0.0)
    assert data.val is data.train
    assert [len(data.train), len(data.test)] == [3, 1]


def test_pythons_own_library_is_there_without_a_download(load):
    started = time.perf_counter()
    data = load()
    assert time.perf_counter() - started < 2
    size = sum(file.stat().st_size for file in library())
    assert 3e6 < size < 8e6
    assert sum(map(len, splits(data))) == size // 129
    assert data.train.inputs.shape[1] == 128
    assert len(data.test) == pytest.approx(size / 129 * 0.1, rel=0.01)
    assert bytes(data.train.inputs[0]) == library()[0].read_bytes()[:128]
    names = [file.name for file in library()]
    assert names == sorted(names)
    assert "ast.py" in names
    assert not any(
        "site-packages" in str(file) or "sysconfigdata" in str(file) for file in library()
    )


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"path": "{tmp}/no"}, r"dataset\.path={tmp}/no: .*there is none\. .*dataset\.path=null"),
        ({"path": "{tmp}"}, r"dataset\.pattern=\*\.txt: must be .*{tmp} matches\. Type .*\*\*/"),
        ({"path": "{tmp}/empty"}, r"dataset\.path={tmp}/empty: .*this one has 0\. Take a longer"),
        (
            {"path": "{tmp}/short"},
            r"dataset\.path={tmp}/short: .*at least 387 bytes, 129 for every split: "
            r"this one has 386\. Take a longer one, or dataset\.length=127 or less",
        ),
        (
            {"path": "{tmp}/short", "val_fraction": 0.0, "length": 193},
            r"at least 388 bytes, 194 for every .*length=192 or less",
        ),
        (
            {"path": "{tmp}/short", "length": 9, "test_fraction": 0.98},
            r"dataset\.test_fraction=0\.98: must be small enough to leave 2 of the 38 samples",
        ),
        (
            {"path": "{tmp}/short", "length": 9, "val_fraction": 0.999},
            r"dataset\.val_fraction=0\.999.*leave some of the 34 samples",
        ),
        ({"path": "{tmp}/short", "length": 9, "limit": 32}, r"dataset\.limit=32.*at most 31"),
    ],
)
def test_a_text_that_cannot_be_used_says_why_and_what_can(load, tmp_path, keys, words):
    written(tmp_path / "short", b"x" * 386)
    written(tmp_path / "empty", b"")
    keys = {name: str(value).format(tmp=tmp_path) if name == "path" else value
            for name, value in keys.items()}  # fmt: skip
    with pytest.raises(UserError, match=words.replace("{tmp}", str(tmp_path))):
        load(**keys)


def test_a_text_without_room_for_the_splits_leaves_no_cache(load, tmp_path):
    with pytest.raises(UserError, match="at least 387 bytes"):
        load(path=written(tmp_path / "short", b"x" * 386))
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"length": 0}, r"dataset\.length=0: must be at least 1"),
        ({"max_bytes": 0}, r"dataset\.max_bytes=0: must be null or at least 1"),
        ({"test_fraction": 0.0}, r"dataset\.test_fraction=0\.0: must be in \(0, 1\)"),
        ({"test_fraction": 1.0}, r"dataset\.test_fraction=1\.0: must be in \(0, 1\)"),
        ({"pattern": ""}, r"dataset\.pattern='': must be a pattern of names"),
        ({"pattern": "/etc/*"}, r"dataset\.pattern=/etc/\*: must be a pattern of names"),
        ({"path": ""}, r"dataset\.path='': must be null, or a file or folder"),
    ],
)
def test_a_key_out_of_range_says_what_is_allowed(keys, words):
    with pytest.raises(UserError, match=words):
        TextConfig(**keys)


def test_a_pattern_that_is_none_says_so(load, tmp_path):
    with pytest.raises(UserError, match=r"dataset\.pattern=a\*\*: must be a pattern"):
        load(path=str(tmp_path), pattern="a**")


def test_a_file_that_cannot_be_read_says_so(load, tmp_path, monkeypatch):
    path = written(tmp_path / "a.txt", bytes(1000))

    def refused(self, mode):  # root, who may run this test, is refused nothing
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(UserError, match=r"dataset\.path=.*a\.txt: must be a text that can be read"):
        load(path=path)


def test_augmenting_text_is_refused(configure, load, tmp_path):
    data = load(path=written(tmp_path / "a.txt", bytes(1000)), length=9)
    with pytest.raises(UserError, match=r"dataset\.augment=True: must be false for text"):
        data_plan(configure("dataset=text dataset.augment=true"), data)
