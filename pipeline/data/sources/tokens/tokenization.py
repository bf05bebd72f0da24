"""Text turned into token ids by a tokenizer of `tokenizers` or `tiktoken`, once for all runs."""

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.config.own_datasets import TokensConfig
from pipeline.data.sources.array_cache import Arrays, load_or_build
from pipeline.data.sources.file_digest import digest_of
from pipeline.data.sources.text import text_files
from pipeline.errors import UserError
from pipeline.user_code import library_missing, shortened

KEY = "dataset.tokenizer"
TIKTOKEN = "tiktoken:"
PIECE = 2**20  # characters that are encoded at once, up to a line break
TOGETHER = 16  # pieces encoded in parallel


class Tokenizer(NamedTuple):
    """A tokenizer of either library."""

    vocabulary: int
    encode: Callable[[list[str]], list[list[int]]]  # texts to tokens, without special ones
    token: Callable[[str], int | None]  # the id of a token, such as <|endoftext|>
    decode: Callable[[list[int]], str]


def tokenize(path: Path, config: TokensConfig) -> tuple[np.ndarray, int]:
    """Return the tokens of a text file, or of the files of a folder, and the size of their vocabulary.

    They are built once into `<root>/cache/tokens-<digest of the files, the tokenizer and its options>-v1/`,
    as uint16 if that suffices, else uint32. A file is encoded in pieces of about a million characters, which
    end at a line break.
    """
    files = text_files(str(path), config.pattern)
    tokenizer = open_tokenizer(str(config.tokenizer))
    vocabulary = vocabulary_of(tokenizer, config)
    end = None if config.end is None else tokenizer.token(config.end)
    if config.end is not None and end is None:
        problem = f"{config.tokenizer} has no such token"
        raise UserError("dataset.end", config.end, problem=problem)
    named = config.tokenizer
    used = [] if named is None or named.startswith(TIKTOKEN) else [Path(named).expanduser()]
    label = f"tokens-{digest_of([*files, *used], named, end)}-v1"
    dtype = np.dtype("<u2" if tokenizer.vocabulary <= 2**16 else "<u4")

    def build(scratch: Path) -> Arrays:
        made = scratch / "tokens"
        with made.open("wb") as stream:
            for file in files:
                for ids in encoded(file, tokenizer):
                    stream.write(np.asarray(ids, dtype).tobytes())
                if end is not None:
                    stream.write(np.asarray([end], dtype).tobytes())
        return {
            "tokens": np.memmap(made, dtype, "r") if made.stat().st_size else np.zeros(0, dtype)
        }

    root = Path(config.root).expanduser().absolute()
    return load_or_build(root, label, build)["tokens"], vocabulary


def open_tokenizer(named: str) -> Tokenizer:
    """Open a tokenizer.json file, or a tokenizer of tiktoken by its name."""
    if named.startswith(TIKTOKEN):
        name = named.removeprefix(TIKTOKEN)
        library = library_of("tiktoken", named)
        try:
            found = library.get_encoding(name)
        except Exception as error:  # an unknown name, or no network
            known = ", ".join(library.list_encoding_names())
            problem = f"tiktoken cannot open it: {shortened(error)}"
            raise UserError(KEY, named, problem=problem, hint=f"It knows {known}.") from error

        def special(token: str) -> int | None:
            return found._special_tokens.get(token)

        def encode(texts: list[str]) -> list[list[int]]:
            return found.encode_ordinary_batch(texts)

        return Tokenizer(found.n_vocab, encode, special, found.decode)
    file = Path(named).expanduser()
    if not named.endswith(".json") or not file.is_file():
        problem = "there is no such file" if named.endswith(".json") else "it is no tokenizer"
        hint = "Set it to a tokenizer.json file, or tiktoken:NAME such as tiktoken:gpt2."
        raise UserError(KEY, named, problem=problem, hint=hint)
    library = library_of("tokenizers", named)
    try:
        opened = library.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain exceptions
        problem = f"it is no file of tokenizers: {shortened(error)}"
        raise UserError(KEY, named, problem=problem) from error
    opened.no_padding()
    opened.no_truncation()

    def ids(texts: list[str]) -> list[list[int]]:
        return [one.ids for one in opened.encode_batch_fast(texts, add_special_tokens=False)]

    return Tokenizer(opened.get_vocab_size(), ids, opened.token_to_id, opened.decode)


def library_of(name: str, named: str):  # noqa: ANN201 (an optional library)
    """Import the library of a tokenizer."""
    try:
        return import_module(name)
    except ImportError as error:
        raise library_missing(name, KEY, named, error) from error


def vocabulary_of(tokenizer: Tokenizer, config: TokensConfig) -> int:
    """Return `dataset.vocabulary`, or the tokenizer's; refuse one that does not hold all its tokens."""
    size = config.vocabulary
    if size is not None and size < tokenizer.vocabulary:
        problem = f"it has {tokenizer.vocabulary} tokens, and dataset.vocabulary={size} is fewer"
        hint = f"Set dataset.vocabulary=null, or at least {tokenizer.vocabulary}."
        raise UserError(KEY, config.tokenizer, problem=problem, hint=hint)
    return size or tokenizer.vocabulary


def encoded(file: Path, tokenizer: Tokenizer) -> Iterator[Sequence[int]]:
    """Yield the tokens of the pieces of a file."""
    waiting: list[str] = []
    try:
        for piece in pieces(file):
            waiting.append(piece)
            if len(waiting) == TOGETHER:
                yield from tokenizer.encode(waiting)
                waiting = []
        yield from tokenizer.encode(waiting)
    except UnicodeDecodeError as error:
        problem = f"it is no text in UTF-8: {error.reason}"
        raise UserError("dataset.path", file, problem=problem) from error
    except OSError as error:
        problem = f"it cannot be read: {error.strerror}"
        raise UserError("dataset.path", file, problem=problem) from error


def pieces(file: Path) -> Iterator[str]:
    """Yield a text file in pieces that end at a line break."""
    with file.open(encoding="utf-8", newline="") as stream:
        while piece := stream.read(PIECE):
            yield piece + stream.readline()
