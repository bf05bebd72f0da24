"""Text: windows of bytes with the next byte as target, in splits that share no byte."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.datasets import TextConfig
from pipeline.data import sources
from pipeline.data.batch_plan import make_batch_plan
from pipeline.data.dataset import Form
from pipeline.data.sources.text import standard_library, windows
from pipeline.errors import UserError
from pipeline.tasks import Language


def splits(data):
    return data.train, data.val, data.test


def written(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


@pytest.fixture
def load(tmp_path):
    """A function that loads a text with its cache in the test's own folder."""
    return lambda **keys: sources.load(TextConfig(root=str(tmp_path / "root"), **keys))


@given(st.integers(1, 40), st.integers(4, 80), st.integers(0, 40))
def test_every_target_is_the_next_byte_and_no_byte_is_in_two_windows(length, count, extra):
    size = count * (length + 1) + min(extra, length)
    text = np.arange(size, dtype=np.uint32)  # each byte tells its place
    fields = windows(text, length, length + 1).fields
    assert fields["tokens"].shape == fields["next"].shape == (count, length)
    np.testing.assert_array_equal(fields["next"], fields["tokens"] + 1)
    assert all(np.shares_memory(field, text) for field in fields.values())
    seen = np.c_[fields["tokens"], fields["next"][:, -1:]].ravel()
    np.testing.assert_array_equal(seen, np.arange(count * (length + 1)))


def test_a_text_is_cut_into_training_validation_and_test_blocks(load, tmp_path):
    text = bytes(range(256)) * 10
    data = load(path=written(tmp_path / "a.txt", text), length=15)
    assert (data.name, type(data.task), data.outputs) == ("text", Language, 256)
    assert [len(split) for split in splits(data)] == [130, 14, 16]
    joined = [
        np.c_[split.fields["tokens"], split.fields["next"][:, -1:]].tobytes()
        for split in splits(data)
    ]
    assert b"".join(joined) == text
    assert data.form is Form.tokens
    assert data.task.terms(data.train.shapes(2)) == 2 * 15


def test_windows_are_views_of_one_memory_mapped_file(load, tmp_path):
    data = load(path=written(tmp_path / "a.txt", bytes(1000)), length=9, limit=20)
    arrays = [
        part for split in splits(data) for part in (split.fields["tokens"], split.fields["next"])
    ]
    for array in arrays:
        assert isinstance(array, np.memmap)
        assert (array.dtype, array.flags.writeable) == (np.uint8, False)
    assert len({Path(array.filename) for array in arrays}) == 1
    assert len(data.train) == 20
    assert np.shares_memory(data.train.fields["tokens"], data.train.fields["next"])
    assert not np.shares_memory(data.train.fields["next"], data.val.fields["tokens"])
    assert not np.shares_memory(data.val.fields["next"], data.test.fields["tokens"])


def test_files_of_a_folder_are_joined_in_the_order_of_their_names(load, tmp_path):
    folder = tmp_path / "texts"
    for name, letter in (("b.txt", b"b"), ("a.txt", b"a"), ("c/d.txt", b"d"), ("e.md", b"e")):
        written(folder / name, letter * 6)

    def text(pattern):
        data = load(path=str(folder), pattern=pattern, length=1, val_fraction=0.2)
        return b"".join(
            np.c_[split.fields["tokens"], split.fields["next"]].tobytes() for split in splits(data)
        )

    assert text("*.txt") == b"aaaaaabbbbbb"
    assert text("**/*.txt") == b"aaaaaabbbbbbdddddd"
    assert text("*.md") == b"eeeeee"


def test_max_bytes_limits_the_text(load, tmp_path):
    for name in ("a.txt", "b.txt"):
        written(tmp_path / "texts" / name, name[:1].encode() * 50)
    data = load(path=str(tmp_path / "texts"), length=9, max_bytes=70)
    assert sum(map(len, splits(data))) == 7
    assert bytes(data.test.fields["tokens"][0]) == b"b" * 9
    assert bytes(data.train.fields["tokens"][0]) == b"a" * 9


def test_an_edited_file_gets_a_new_cache_and_an_unchanged_one_reuses_it(load, tmp_path):
    path = written(tmp_path / "a.txt", b"one " * 100)
    caches = tmp_path / "root" / "cache"
    assert bytes(load(path=path, length=7).train.fields["tokens"][0]) == b"one one"
    (first,) = caches.glob("*/text.npy")
    before = first.stat().st_mtime_ns
    load(path=path, length=11, val_fraction=0.3)  # other windows of the same bytes
    assert [(file, file.stat().st_mtime_ns) for file in caches.glob("*/text.npy")] == [
        (first, before)
    ]
    stat = os.stat(path)
    written(tmp_path / "a.txt", b"two " * 100)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as long, and as old
    assert bytes(load(path=path, length=7).train.fields["tokens"][0]) == b"two two"
    assert len(list(caches.glob("*/text.npy"))) == 2


def test_validation_is_the_training_set_if_val_fraction_is_zero(load, tmp_path):
    data = load(path=written(tmp_path / "a.txt", bytes(40)), length=9, val_fraction=0.0)
    assert data.val is data.train
    assert [len(data.train), len(data.test)] == [3, 1]


def test_the_default_text_is_pythons_standard_library(load):
    data = load()
    size = sum(file.stat().st_size for file in standard_library())
    assert 3e6 < size < 8e6
    assert sum(map(len, splits(data))) == size // 129
    assert data.train.fields["tokens"].shape[1] == 128
    assert len(data.test) == pytest.approx(size / 129 * 0.1, rel=0.01)
    assert bytes(data.train.fields["tokens"][0]) == standard_library()[0].read_bytes()[:128]
    names = [file.name for file in standard_library()]
    assert names == sorted(names)
    assert "ast.py" in names
    assert not any(
        "site-packages" in str(file) or "sysconfigdata" in str(file) for file in standard_library()
    )


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"path": "{tmp}/no"}, r"dataset\.path={tmp}/no: there is no such file.*\. Set .*or null"),
        ({"path": "{tmp}"}, r"dataset\.pattern=\*\.txt: no file in {tmp} matches .*\*\*/"),
        ({"path": "{tmp}/empty"}, r"dataset\.path={tmp}/empty: its 0 bytes .*Use a longer text\."),
        (
            {"path": "{tmp}/short"},
            r"dataset\.path={tmp}/short: its 386 bytes are fewer than 387, 129 for each split\. "
            r"Use a longer text, or dataset\.length=127\.",
        ),
        (
            {"path": "{tmp}/short", "val_fraction": 0.0, "length": 193},
            r"fewer than 388, 194 for each .*length=192\.",
        ),
        (
            {"path": "{tmp}/short", "length": 9, "test_fraction": 0.98},
            r"dataset\.test_fraction=0\.98: must be small enough to leave 2 of the 38 samples",
        ),
        (
            {"path": "{tmp}/short", "length": 9, "val_fraction": 0.999},
            r"dataset\.val_fraction=0\.999.*leave 1 of the 34 samples",
        ),
        ({"path": "{tmp}/short", "length": 9, "limit": 32}, r"dataset\.limit=32.*at most 31"),
    ],
)
def test_an_unusable_text_is_refused_with_a_remedy(load, tmp_path, keys, words):
    written(tmp_path / "short", b"x" * 386)
    written(tmp_path / "empty", b"")
    keys = {name: str(value).format(tmp=tmp_path) if name == "path" else value
            for name, value in keys.items()}  # fmt: skip
    with pytest.raises(UserError, match=words.replace("{tmp}", str(tmp_path))):
        load(**keys)


def test_a_text_too_short_for_its_splits_leaves_no_cache(load, tmp_path):
    with pytest.raises(UserError, match="fewer than 387"):
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


def test_an_invalid_pattern_is_refused(load, tmp_path):
    with pytest.raises(UserError, match=r"dataset\.pattern=a\*\*: invalid: "):
        load(path=str(tmp_path), pattern="a**")


def test_an_unreadable_file_is_reported(load, tmp_path, monkeypatch):
    path = written(tmp_path / "a.txt", bytes(1000))

    def refused(self, mode):  # root, who may run this test, is refused nothing
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(
        UserError, match=r"dataset\.path=.*a\.txt: it cannot be read: Permission denied"
    ):
        load(path=path)


def test_augmenting_text_is_refused(configure, load, tmp_path):
    data = load(path=written(tmp_path / "a.txt", bytes(1000)), length=9)
    with pytest.raises(UserError, match=r"dataset\.augment=true: must be false for text"):
        make_batch_plan(configure("dataset=text dataset.augment=true"), data)
