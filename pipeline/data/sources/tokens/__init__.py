"""Sequences of tokens, from files of token ids or from text."""

from pathlib import Path

from pipeline.config.checks.suggestions import nearest_path
from pipeline.config.own_datasets import TokensConfig
from pipeline.data.dataset import Data
from pipeline.data.sources.text import require_windows, window_size, windows
from pipeline.data.sources.tokens.files import ENDINGS, check_tokens, open_splits
from pipeline.data.sources.tokens.tokenization import tokenize
from pipeline.data.splits import make_splits
from pipeline.errors import UserError
from pipeline.tasks import Language, Task

KEY = "dataset.path"


def load(config: TokensConfig, task: Task | None = None) -> Data:
    """Windows of tokens in their order: `tokens`, and the token after each, `next`: [n, length].

    They have the file's type, and are views of it; see `windows`. The first ones are for training, the next
    for validation, the last for testing.
    """
    path = path_of(config)
    if config.tokenizer is not None:
        tokens, vocabulary = tokenize(path, config)
        given = {"train": tokens}
    else:
        given, vocabulary = open_splits(path, config), config.vocabulary
    vocabulary = check_tokens(given, vocabulary, config)
    size = window_size(config.length, task)
    others = 0 if "val" in given or "test" in given else 1
    for split, tokens in given.items():
        needed = 1 + others * (1 + (config.val_fraction > 0)) if split == "train" else 1
        require_windows(len(tokens), needed, size, config, "tokens")
    splits = {split: windows(tokens, config.length, size) for split, tokens in given.items()}
    train, val, test, _ = make_splits(splits, config, test_fraction=config.test_fraction)
    return Data("tokens", Language(), train, val, test, {"tokens": vocabulary}, {})


def path_of(config: TokensConfig) -> Path:
    """Return `dataset.path`; refuse what is no file or folder, or not what the tokenizer takes."""
    hint = (
        "Set dataset.path to a .bin or .npy file of token ids, or set dataset.tokenizer for text."
    )
    if not config.path:
        raise UserError(KEY, "''", "a file of token ids, or text with dataset.tokenizer", hint)
    path = Path(config.path).expanduser()
    if not path.exists():
        raise UserError(
            KEY, path, problem="there is no such file or folder", hint=nearest_path(path) + hint
        )
    is_ids = path.suffix in ENDINGS
    if path.is_file() and is_ids and config.tokenizer is not None:
        problem = f"{path.name} has token ids already"
        raise UserError(
            "dataset.tokenizer", config.tokenizer, problem=problem, hint="Leave it out."
        )
    if path.is_file() and not is_ids and config.tokenizer is None:
        raise UserError(KEY, path, problem="it is no .bin or .npy file", hint=hint)
    return path
