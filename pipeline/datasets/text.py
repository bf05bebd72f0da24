"""Any text on this machine, read byte by byte: the data of a language model, without a download.

A byte is a token, so there are 256 of them, every file can be read and nothing has to be fitted.
"""

import hashlib
import sysconfig
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.config import TextConfig
from pipeline.datasets.cache import Arrays, load_or_build
from pipeline.datasets.data import Data, Split, Task
from pipeline.datasets.strata import divide, held_out_count
from pipeline.errors import UserError

VOCABULARY = 256
PIECE = 2**20  # bytes that are read at once


def load(config: TextConfig) -> Data:
    """uint8 [n, length] pieces of the text, in its order, and as targets the byte after each byte.

    The text is cut into windows of `length + 1` bytes; a partial last one is dropped. A window's
    inputs are all of its bytes but the last, its targets all but the first, so that no byte
    of the text is in two splits: the first windows train, the next validate, the last test.

    The files are joined into one array, `<root>/cache/text-<digest of its bytes>-v1/`, which all
    splits are views of.

    Raises:
        UserError: the path is missing, unreadable, empty or too short, no file matches the
            pattern, `dataset.root` cannot be used, or `limit`, `val_fraction` or `test_fraction`
            asks for more than there is.
    """
    try:
        files = text_files(config)
        name, length = identity(files, config.max_bytes)
    except OSError as error:
        told = f"a text that can be read ({error.strerror})"
        raise UserError("dataset.path", error.filename, told) from error
    require_windows(length, config)

    root = Path(config.root).expanduser().absolute()
    build = partial(joined, files, config.max_bytes)
    text = load_or_build(root, f"text-{name}-v1", build)["text"]
    training, test = split_text(text, config)
    train, val = divide(training, config)
    nothing = np.zeros(1), np.ones(1)  # to subtract and to divide by
    return Data("text", Task.language, train, val, test, VOCABULARY, *nothing)


def text_files(config: TextConfig) -> list[Path]:
    """The files that make up the text, in the order of their names.

    Raises:
        UserError: there is no such path, or no file in the folder matches the pattern.
    """
    if config.path is None:
        return library()
    path = Path(config.path).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(
            "dataset.path",
            path,
            "a text file or a folder of them, and there is none",
            "Correct it, or type dataset.path=null for the source of Python's own library.",
        )
    try:
        files = sorted(file for file in path.glob(config.pattern) if file.is_file())
    except ValueError as error:
        raise UserError("dataset.pattern", config.pattern, f"a pattern ({error})") from error
    if not files:
        raise UserError(
            "dataset.pattern",
            config.pattern,
            f"a pattern that some file in {path} matches",
            "Type dataset.pattern='*.EXTENSION', or '**/*.EXTENSION' to look in its folders too.",
        )
    return files


def library() -> list[Path]:
    """The modules of Python's standard library: about 5 MB, the same for one version of Python.

    Packages are left out, and with them tests and all that was installed later.

    Raises:
        UserError: this Python came without its source.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    # One file is written when Python is built, and tells of that machine.
    files = [file for file in folder.glob("*.py") if not file.name.startswith("_sysconfigdata")]
    if not files:
        raise UserError(
            "dataset.path",
            "null",
            "a text file or a folder of them: this Python came without its source",
            "Set dataset.path=FILE.",
        )
    return sorted(files)


def pieces(files: Iterable[Path], limit: int | None) -> Iterator[bytes]:
    """The bytes of the files one after the other, at most `limit` of them."""
    for file in files:
        with file.open("rb") as stream:
            while piece := stream.read(PIECE if limit is None else min(PIECE, limit)):
                yield piece
                limit = None if limit is None else limit - len(piece)


def identity(files: Iterable[Path], limit: int | None) -> tuple[str, int]:
    """The beginning of the SHA-256 of a text, so that an edited one is another; and its length."""
    summary, length = hashlib.sha256(), 0
    for piece in pieces(files, limit):
        summary.update(piece)
        length += len(piece)
    return summary.hexdigest()[:16], length


def joined(files: Iterable[Path], limit: int | None, scratch: Path) -> Arrays:
    """The whole text as one array, uint8 [bytes], on disk rather than in memory."""
    file = scratch / "text"
    with file.open("wb") as stream:
        stream.writelines(pieces(files, limit))
    return {"text": np.memmap(file, np.uint8, "r")}


def require_windows(length: int, config: TextConfig) -> None:
    """Refuse a text of `length` bytes that has no window for every split.

    Raises:
        UserError: with the longest window that it has room for.
    """
    size, splits = config.length + 1, 3 if config.val_fraction > 0 else 2
    if length >= splits * size:
        return
    longest = length // splits - 1
    raise UserError(
        "dataset.path",
        "null" if config.path is None else config.path,
        f"a text of at least {splits * size} bytes, {size} for every split: this one has {length}",
        f"Take a longer one, or dataset.length={longest} or less."
        if longest > 0
        else "Take a longer one.",
    )


def split_text(text: np.ndarray, config: TextConfig) -> tuple[Split, Split]:
    """The windows of a text, as views: those to train and validate on, and those to test on.

    Args:
        text: uint8 [bytes].
        config: its `length`, `val_fraction` and `test_fraction`.

    Raises:
        UserError: testing would leave none for the other splits.
    """
    size, others = config.length + 1, 2 if config.val_fraction > 0 else 1
    count = len(text) // size
    windows = text[: count * size].reshape(count, size)
    whole = Split(windows[:, :-1], windows[:, 1:])
    rest = count - held_out_count(count, config.test_fraction)
    if rest < others:
        raise UserError(
            "dataset.test_fraction",
            config.test_fraction,
            f"small enough to leave {others} of the {count} samples for the other splits",
        )
    return whole[:rest], whole[rest:]
