"""Tokens in files, and made of text: windows, splits, vocabularies, and what is refused."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.own_datasets import TokensConfig, TokenType
from pipeline.config.tasks import MaskedLanguageConfig, OwnTaskConfig
from pipeline.data import sources
from pipeline.data.dataset import Form
from pipeline.errors import UserError
from pipeline.run.generation.record import reader_of

WORDS = {"[UNK]": 0, "the": 1, "cat": 2, "sat": 3, "<|end|>": 4}


@pytest.fixture
def load(tmp_path):
    """A function that loads tokens with their cache in the test's own folder."""

    def loaded(file, task=None, **keys):
        path = str(tmp_path / file) if file else ""
        return sources.load(TokensConfig(path=path, root=str(tmp_path / "root"), **keys), task)

    return loaded


def splits(data):
    return data.train, data.val, data.test


def joined(data):
    """The tokens of all windows, in their order."""
    rows = [np.c_[split.fields["tokens"], split.fields["next"][:, -1:]] for split in splits(data)]
    return np.concatenate(rows).ravel()


@pytest.mark.parametrize("kind", ["bin", "npy", "uint32"])
def test_windows_are_views_of_the_file_with_the_next_token(load, tmp_path, kind):
    ids = np.random.default_rng(0).integers(0, 60_000, 1000)
    stored = ids.astype("<u4" if kind == "uint32" else "<u2")
    file = tmp_path / f"ids.{'npy' if kind == 'npy' else 'bin'}"
    np.save(file, stored) if kind == "npy" else stored.tofile(file)
    data = load(
        file.name, length=9, dtype=TokenType.uint32 if kind == "uint32" else TokenType.uint16
    )
    assert (data.name, data.task.name, data.form) == ("tokens", "language", Form.tokens)
    assert data.outputs == ids.max() + 1
    assert [len(split) for split in splits(data)] == [81, 9, 10]
    np.testing.assert_array_equal(joined(data), ids)
    for split in splits(data):
        for array in split.fields.values():
            assert isinstance(array, np.memmap)
            assert (array.dtype, Path(array.filename)) == (stored.dtype, file)


@pytest.mark.parametrize(
    ("task", "next_there"),
    [
        (MaskedLanguageConfig(), False),
        (OwnTaskConfig(), False),
        (OwnTaskConfig(targets=["next"]), True),
    ],
)
def test_a_task_without_next_tokens_gets_windows_of_the_length(load, tmp_path, task, next_there):
    np.arange(100, dtype="<u2").tofile(tmp_path / "ids.bin")
    data = load("ids.bin", task, length=10)
    assert data.task.name == task.name
    assert ("next" in data.train.fields) is next_there
    assert [len(split) for split in splits(data)] == ([7, 1, 1] if next_there else [8, 1, 1])
    if not next_there:
        seen = np.concatenate([split.fields["tokens"] for split in splits(data)])
        np.testing.assert_array_equal(seen.ravel(), np.arange(100))


def test_files_of_a_folder_are_splits(load, tmp_path):
    for split, count in (("train", 400), ("val", 60)):
        np.arange(count, dtype="<u2").tofile(tmp_path / f"{split}.bin")
    data = load(".", length=9, vocabulary=500)
    assert data.outputs == 500
    assert [len(split) for split in splits(data)] == [40, 6, 6]  # testing on the validation set
    np.save(tmp_path / "test.npy", np.arange(90))
    data = load(".", length=9)
    assert [len(split) for split in splits(data)] == [40, 6, 9]
    assert data.outputs == 400
    folds = [load(".", length=9, folds=4, fold=fold).test for fold in range(4)]
    assert [fold.fields["tokens"][0, 0] for fold in folds] == [0, 100, 200, 300]


@pytest.fixture
def tokenizer(tmp_path):
    """A tokenizer.json of five words."""
    content = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": {"type": "Whitespace"},
        "model": {"type": "WordLevel", "vocab": WORDS, "unk_token": "[UNK]"},
    }
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(content))
    return str(file)


def test_text_becomes_tokens_once(load, tmp_path, tokenizer):
    pytest.importorskip("tokenizers")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/b.txt").write_text("sat the\n" * 20)
    (tmp_path / "texts/a.txt").write_text("the cat\n" * 20)
    keys = {"tokenizer": tokenizer, "length": 3, "end": "<|end|>"}
    data = load("texts", **keys)
    assert data.outputs == 5
    assert joined(data).tolist() == ([1, 2] * 20 + [4] + [3, 1] * 20 + [4])[:80]
    assert data.train.fields["tokens"].dtype == np.uint16
    show = reader_of(TokensConfig(tokenizer=tokenizer, vocabulary=8), data)
    assert show(np.array([1, 2, 7, 3])) == "the cat sat", "7 is no token of the tokenizer"
    [cached] = (tmp_path / "root/cache").glob("tokens-*/tokens.npy")
    before = cached.stat().st_mtime_ns
    assert load("texts", vocabulary=8, **keys).outputs == 8
    assert cached.stat().st_mtime_ns == before
    (tmp_path / "texts/a.txt").write_text("cat cat cat\n" * 20)
    assert joined(load("texts", **keys))[:4].tolist() == [2, 2, 2, 2]
    with pytest.raises(UserError, match=r"dataset\.tokenizer=.*it has 5 tokens, and .*=4 is fewer"):
        load("texts", **keys | {"vocabulary": 4})
    with pytest.raises(UserError, match=r"dataset\.end=<end>: .*has no such token"):
        load("texts", **keys | {"end": "<end>"})
    (tmp_path / "texts/a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"dataset\.path=.*a\.txt: it is no text in UTF-8"):
        load("texts", **keys)


def test_a_long_text_is_encoded_in_pieces_that_end_at_a_line(
    load, tmp_path, tokenizer, monkeypatch
):
    pytest.importorskip("tokenizers")
    monkeypatch.setattr("pipeline.data.sources.tokens.tokenization.PIECE", 10)
    (tmp_path / "a.txt").write_text("the cat sat\n" * 99)
    data = load("a.txt", tokenizer=tokenizer, length=8)
    assert joined(data).tolist() == [1, 2, 3] * 99


def test_text_becomes_tokens_of_tiktoken(load, tmp_path, monkeypatch):
    pytest.importorskip("tiktoken")
    folder = tmp_path / "tiktoken_ext"
    folder.mkdir()
    (folder / "single_bytes.py").write_text(
        "def single_bytes():\n"
        "    ranks = {bytes([n]): n for n in range(256)}\n"
        "    return {'name': 'single_bytes', 'pat_str': r'\\S+|\\s+', 'mergeable_ranks': ranks,\n"
        "            'special_tokens': {'<|endoftext|>': 256}}\n"
        "ENCODING_CONSTRUCTORS = {'single_bytes': single_bytes}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "a.txt").write_text("hello\n" * 20)
    data = load("a.txt", tokenizer="tiktoken:single_bytes", length=4, end="<|endoftext|>")
    assert data.outputs == 257
    assert bytes(joined(data).astype(np.uint8)) == (b"hello\n" * 20)
    with pytest.raises(
        UserError, match=r"tiktoken:other: tiktoken cannot open it.*It knows .*single"
    ):
        load("a.txt", tokenizer="tiktoken:other")


@pytest.mark.parametrize(
    ("file", "keys", "words"),
    [
        ("", {}, r"dataset\.path='': must be a file of token ids, or text with dataset\.tokenizer"),
        ("no.bin", {}, "no.bin: there is no such file or folder"),
        ("a.txt", {}, "it is no .bin or .npy file. .*or set dataset.tokenizer for text"),
        ("empty", {}, "this folder has no train.bin or train.npy. Set dataset.tokenizer"),
        ("ids.bin", {"dtype": TokenType.uint32}, "its 202 bytes are no whole number of uint32"),
        ("ids.bin", {"length": 40}, "its 101 tokens are fewer than 123, 41 for each split.*length=32"),
        ("ids.bin", {"length": 9, "vocabulary": 50}, "train has token 50 at place 50, above 0 … 49.*=101"),
        ("none.bin", {}, "its 0 tokens are fewer"),
        ("float.npy", {}, "it is an array 9 of <f8, not one row of integers"),
        ("wide.npy", {}, "it is an array 3×3 of <i8, not one row"),
        ("below.npy", {"length": 1}, "train has token -1 at place 4"),
        ("ids.bin", {"tokenizer": "t.json"}, r"dataset\.tokenizer=t\.json: ids\.bin has token ids"),
        ("a.txt", {"tokenizer": "no.json"}, r"dataset\.tokenizer=no\.json: there is no such file"),
        ("a.txt", {"tokenizer": "gpt2"}, r"tokenizer=gpt2: it is no tokenizer\. Set .* tiktoken:gpt2"),
        ("ids.bin", {"length": 9, "folds": 11, "fold": 0}, "folds=11: must be at most 10"),
    ],
)  # fmt: skip
def test_tokens_that_cannot_be_used_are_refused(load, tmp_path, file, keys, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("the cat")
    (tmp_path / "none.bin").write_bytes(b"")
    np.arange(101, dtype="<u2").tofile(tmp_path / "ids.bin")
    np.save(tmp_path / "float.npy", np.zeros(9))
    np.save(tmp_path / "wide.npy", np.zeros((3, 3), int))
    np.save(tmp_path / "below.npy", np.array([1, 2, 3, 4, -1, 6, 7]))
    with pytest.raises(UserError, match=words):
        load(file, **keys)


@pytest.mark.parametrize("named", ["{file}", "tiktoken:gpt2"])
def test_a_library_that_is_not_there_is_named_with_its_installation(
    load, tmp_path, tokenizer, monkeypatch, named
):
    (tmp_path / "a.txt").write_text("the cat")
    for library in ("tokenizers", "tiktoken"):
        monkeypatch.setitem(sys.modules, library, None)
    words = r"it needs (tokenizers|tiktoken), which is not installed\. pip install \1"
    with pytest.raises(UserError, match=words):
        load("a.txt", tokenizer=named.format(file=tokenizer))
