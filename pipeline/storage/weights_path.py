"""The files of weights behind a path: a file, the index of one in parts, or a folder with either."""

import json
from pathlib import Path

from pipeline.errors import UserError

INDEX = ".index.json"
# As Hugging Face's `save_pretrained` names them, the safer first.
FOLDER_FILES = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
    "pytorch_model.bin.index.json", "flax_model.msgpack",
)  # fmt: skip


def weights_in(folder: Path) -> Path | None:
    """Return the file of weights in a folder; None without one."""
    return next((folder / name for name in FOLDER_FILES if (folder / name).is_file()), None)


def weight_files(path: Path, key: str) -> list[Path]:
    """Return the files with the arrays; the path itself, if it is no folder and no index.

    Raises:
        UserError: an index cannot be read, or names a file that is not there.
    """
    path = weights_in(path) or path if path.is_dir() else path
    if not path.name.endswith(INDEX):
        return [path]
    try:
        names = sorted({*json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()})
        files = [path.parent / name for name in names]
    except FileNotFoundError:
        raise UserError(key, path, problem="there is no such file") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem, hint = "it is no index of weights in parts", "It needs an entry `weight_map`."
        raise UserError(key, path, problem=problem, hint=hint) from error
    if absent := [file.name for file in files if not file.is_file()]:
        problem = f"of its {len(files)} parts it lacks {', '.join(absent)}"
        raise UserError(key, path, problem=problem, hint="Copy them beside it.")
    return files
