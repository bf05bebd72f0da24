"""Text files as bytes, for language models without a download.

Each byte is a token: a vocabulary of 256 that covers every file and needs no tokenizer.
"""

import hashlib
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from pipeline.config.checks.suggestions import nearest_path
from pipeline.config.datasets import TextConfig
from pipeline.config.own_datasets import TokensConfig
from pipeline.data.dataset import Data, Split
from pipeline.data.sources.array_cache import Arrays, load_or_build
from pipeline.data.splits import make_splits
from pipeline.errors import UserError
from pipeline.tasks import Language, Task

VOCABULARY = 256
CHUNK = 2**20  # bytes read at once


def load(config: TextConfig, task: Task | None = None) -> Data:
    """Windows of the text in its order: `tokens`, and the byte after each, `next`: uint8 [n, length].

    The text is cut into windows; see `windows`. The first ones are for training, the next for validation,
    the last for testing.

    All splits are views of one array, `<root>/cache/text-<digest of its bytes>-v1/`.
    """
    digest, length = hashlib.sha256(), 0
    try:
        files = text_files(config.path, config.pattern)
        for chunk in read_chunks(files, config.max_bytes):
            digest.update(chunk)
            length += len(chunk)
    except OSError as error:
        problem = f"it cannot be read: {error.strerror}"
        raise UserError("dataset.path", error.filename, problem=problem) from error
    size = window_size(config.length, task)
    require_windows(length, 3 if config.val_fraction > 0 else 2, size, config)

    def build(scratch: Path) -> Arrays:
        file = scratch / "text"
        with file.open("wb") as stream:
            stream.writelines(read_chunks(files, config.max_bytes))
        return {"text": np.memmap(file, np.uint8, "r")}

    root = Path(config.root).expanduser().absolute()
    text = load_or_build(root, f"text-{digest.hexdigest()[:16]}-v1", build)["text"]
    given = {"train": windows(text, config.length, size)}
    train, val, test, _ = make_splits(given, config, test_fraction=config.test_fraction)
    return Data("text", Language(), train, val, test, {"tokens": VOCABULARY}, {})


def text_files(given: str | None, pattern: str) -> list[Path]:
    """List the files of a text, sorted by name; raise a UserError if there are none."""
    if given is None:
        return standard_library()
    path = Path(given).expanduser()
    if path.is_file():
        return [path]
    if not path.is_dir():
        hint = "Set dataset.path=FILE or FOLDER, or null for the source of Python's library."
        problem = "there is no such file or folder"
        raise UserError("dataset.path", path, hint=nearest_path(path) + hint, problem=problem)
    try:
        files = sorted(file for file in path.glob(pattern) if file.is_file())
    except ValueError as error:
        raise UserError("dataset.pattern", pattern, problem=f"invalid: {error}") from error
    if not files:
        hint = "Set dataset.pattern='*.EXTENSION', or '**/*.EXTENSION' for subfolders too."
        problem = f"no file in {path} matches this pattern"
        raise UserError("dataset.pattern", pattern, hint=hint, problem=problem)
    return files


def standard_library() -> list[Path]:
    """List the modules of Python's standard library: about 5 MB, the same for one Python version.

    Packages are left out, and with them tests and installed libraries.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    # _sysconfigdata is written when Python is built, and differs between machines.
    files = [file for file in folder.glob("*.py") if not file.name.startswith("_sysconfigdata")]
    if not files:
        problem = "this Python has no source files to take as the text"
        raise UserError("dataset.path", "null", hint="Set dataset.path=FILE.", problem=problem)
    return sorted(files)


def read_chunks(files: Iterable[Path], limit: int | None) -> Iterator[bytes]:
    """Read the files one after the other, at most `limit` bytes."""
    left = sys.maxsize if limit is None else limit
    for file in files:
        with file.open("rb") as stream:
            while chunk := stream.read(min(CHUNK, left)):
                yield chunk
                left -= len(chunk)


def window_size(length: int, task: Task | None) -> int:
    """Return the tokens of a window: one more than a sample has, if the next tokens are learned."""
    return length + (task is None or task.names("next"))


def require_windows(
    length: int, splits: int, size: int, config: TextConfig | TokensConfig, unit: str = "bytes"
) -> None:
    """Refuse a text of `length` bytes or tokens that has less than one window of a size for each split."""
    if length < splits * size:
        longest = length // splits - (size - config.length)
        hint = "Use a longer text" + (f", or dataset.length={longest}." if longest > 0 else ".")
        each = f", {size} for each split" if splits > 1 else ""
        problem = f"its {length} {unit} are fewer than {splits * size}{each}"
        raise UserError("dataset.path", config.path or "null", hint=hint, problem=problem)


def windows(text: np.ndarray, length: int, size: int) -> Split:
    """Cut a text into windows, as views of it; a partial last one is dropped.

    A window of `length` is `tokens`. Of one of `length + 1` all but the last are `tokens`, and all but the
    first `next`, so no token is in two samples.
    """
    count = len(text) // size
    cut = text[: count * size].reshape(count, size)
    if size == length:
        return Split({"tokens": cut})
    return Split({"tokens": cut[:, :-1], "next": cut[:, 1:]})
