"""The data sets of the `dataset` group that are the user's own."""

from enum import Enum
from typing import Any

from pipeline.config.datasets import DatasetConfig
from pipeline.config.fields import option, require


class NamedArraysConfig(DatasetConfig):
    """Data sets of named arrays."""

    test_fraction: float = option(
        0.1, "fraction of the samples held out for testing, if no test set is given", "in (0, 1)"
    )
    sizes: dict[str, int] = option(
        {}, "classes or vocabulary of integer fields, like {label:10}; else the largest value + 1"
    )
    normalize: list[str] | None = option(
        None,
        "fields to normalise by mean and deviation over the training samples; null: uint8 images",
    )
    allow_nan: bool = option(False, "accept NaN and infinity")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, size in self.sizes.items():
            require(size >= 1, f"dataset.sizes.{name}", size, "at least 1")


class ArraysConfig(NamedArraysConfig):
    """Arrays in files of NumPy: each is a field, named by its file or its name in an archive."""

    name: str = "arrays"
    path: str = option(
        "",
        "a .npz or .npy file, or a folder of them; names are FIELD, or train/FIELD, val/FIELD, test/FIELD",
    )


class OwnDataConfig(NamedArraysConfig):
    """A user's own data, by a function."""

    name: str = "own"
    load: str | None = option(
        None,
        "your function, as package.module:function; it returns arrays by name, or such for each split",
    )
    options: dict[str, Any] = option({}, "arguments of your function")


class Missing(Enum):
    mean = "mean"
    indicate = "indicate"
    refuse = "refuse"


class TableConfig(DatasetConfig):
    """A table in a CSV or Parquet file, with columns of numbers and of categories."""

    name: str = "table"
    path: str = option(
        "", "a .csv, .tsv or .parquet file, or a folder with train, and val and test, of these"
    )
    targets: list[str] = option(
        [],
        "columns to predict: numbers for regression, one of texts for classes, booleans for labels",
    )
    columns: list[str] | None = option(
        None, "columns that the model gets; null: all that are not left out, targets or the split"
    )
    drop: list[str] = option([], "columns to leave out")
    categorical: list[str] = option(
        [], "columns whose numbers are categories or classes, as texts are"
    )
    missing: Missing = option(
        Missing.mean,
        "empty cells: the training mean in numbers; indicate: a column beside that tells; refuse",
    )
    split: str | None = option(None, "column that says train, val or test; null: by fractions")
    separator: str | None = option(
        None, "between the cells of a CSV file; null: a comma, in .tsv a tab"
    )
    test_fraction: float = option(
        0.1, "fraction of the rows held out for testing, if no test set is given", "in (0, 1)"
    )


class TokenType(Enum):
    uint16 = "uint16"
    uint32 = "uint32"


class TokensConfig(DatasetConfig):
    """Token ids in a file, or made of text by a tokenizer."""

    name: str = "tokens"
    path: str = option(
        "",
        "a .bin or .npy file of token ids, a folder with train and val of these; or text to tokenize",
    )
    dtype: TokenType = option(TokenType.uint16, "type of the numbers in .bin files")
    vocabulary: int | None = option(
        None,
        "number of tokens; null: of the tokenizer, or the largest token + 1",
        "null or at least 1",
    )
    length: int = option(128, "sequence (context) length in tokens", "at least 1")
    tokenizer: str | None = option(
        None, "turns text into tokens, once: a tokenizer.json file, or tiktoken:NAME"
    )
    pattern: str = option("*.txt", "which files of a folder of text")
    end: str | None = option(
        None, "token that the tokenizer writes after each file, such as <|endoftext|>"
    )
    test_fraction: float = option(
        0.1,
        "fraction of the tokens, at their end, held out for testing, if no test set is given",
        "in (0, 1)",
    )


OWN_DATASETS = {
    "arrays": ArraysConfig,
    "own": OwnDataConfig,
    "table": TableConfig,
    "tokens": TokensConfig,
}
