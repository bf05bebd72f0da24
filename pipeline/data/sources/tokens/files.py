"""Files of token ids, memory-mapped."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.config.own_datasets import TokensConfig
from pipeline.data.sources.arrays.field_checks import first_row, limits_of
from pipeline.data.sources.arrays.files import open_file
from pipeline.data.splits import SPLITS
from pipeline.errors import UserError

KEY = "dataset.path"
ENDINGS = (".bin", ".npy")


def open_splits(path: Path, config: TokensConfig) -> dict[str, np.ndarray]:
    """Map a file of token ids, or the files train, val and test in a folder."""
    if path.is_file():
        return {"train": open_tokens(path, config)}
    found = {
        split: path / f"{split}{ending}"
        for split in SPLITS
        for ending in ENDINGS
        if (path / f"{split}{ending}").exists()
    }
    if "train" not in found:
        problem = "this folder has no train.bin or train.npy"
        hint = "Set dataset.tokenizer to make tokens of text."
        raise UserError(KEY, path, problem=problem, hint=hint)
    return {split: open_tokens(file, config) for split, file in found.items()}


def open_tokens(file: Path, config: TokensConfig) -> np.ndarray:
    """Map a file of token ids: integers [n]."""
    if file.suffix == ".npy":
        [tokens] = open_file(file, "tokens", config.root).values()
        if tokens.ndim != 1 or tokens.dtype.kind not in "iu" or not tokens.dtype.isnative:
            shape = "×".join(map(str, tokens.shape))
            problem = f"it is an array {shape} of {tokens.dtype.str}, not one row of integers"
            raise UserError(KEY, file, problem=problem)
        return tokens
    dtype = np.dtype(config.dtype.value).newbyteorder("<")
    try:
        size = file.stat().st_size
        if size % dtype.itemsize:
            problem = f"its {size} bytes are no whole number of {config.dtype.value}"
            raise UserError(KEY, file, problem=problem, hint="Set dataset.dtype to its type.")
        return np.memmap(file, dtype, "r") if size else np.zeros(0, dtype)
    except OSError as error:
        problem = f"it cannot be read: {error.strerror}"
        raise UserError(KEY, file, problem=problem) from error


def check_tokens(
    splits: Mapping[str, np.ndarray], vocabulary: int | None, config: TokensConfig
) -> int:
    """Return the size of the vocabulary: as given, or the largest token + 1; refuse a token outside it."""
    found = {split: limits_of(tokens, split, config.root) for split, tokens in splits.items()}
    size = max(highest for _, highest in found.values()) + 1 if vocabulary is None else vocabulary
    for split, (lowest, highest) in found.items():
        if lowest < 0 or highest >= size:
            place, value = first_row(splits[split], lambda part: (part < 0) | (part >= size))
            problem = f"{split} has token {value} at place {place:,}, above 0 … {size - 1}"
            hint = (
                f"Set dataset.vocabulary={highest + 1}, or dataset.dtype to the type of the file."
            )
            raise UserError(KEY, config.path, problem=problem, hint=hint)
    return size
