"""Signature of a run: a hash of its config, without keys that cannot change the result.

Of files that it names the content counts, too, and of the user's own modules. The signature that a run has
stored tells if its `run.json` was edited; whether it is the same experiment as another, `is_same_experiment`
tells, also of runs of earlier versions, which had fewer keys.
"""

import json
import os
import sys
from collections.abc import Mapping
from functools import lru_cache
from hashlib import file_digest, sha256
from pathlib import Path

from pipeline.config.experiment import Config, plain
from pipeline.config.models import AUTO_NAMES
from pipeline.config.stored_config import completed
from pipeline.errors import UserError
from pipeline.storage.data_fingerprint import KEY as DATA
from pipeline.storage.data_fingerprint import fingerprint_of
from pipeline.storage.file_stamp import Stamp, stamp_of
from pipeline.storage.names_path import NAMES as FOUND_NAMES
from pipeline.storage.run_identity import RESULT
from pipeline.storage.weights_path import weight_files, weights_in

# Version of what a config means, raised when the same config gives other numbers: 2 since the order of the
# samples is computed position by position.
MEANING = 2

# Keys and groups that cannot change the result.
IRRELEVANT = {
    "name", "mode", "resume", "checkpoint", "tags", "logger", "sweep",
    "dataset.root", "dataset.download", "dataset.cache", "dataset.workers",
    "train.stop_after", "train.profile", "train.log_every", "train.eval_batch_size",
    "task.samples", "task.samples_at_evaluations",
}  # fmt: skip

# Keys of files, and of import paths of the user's own code.
NAMES = "model.names"
FILES = (NAMES, "model.weights", "dataset.labels", "dataset.tokenizer")
CODE = (
    "dataset.load", "task.torch", "task.jax", "task.summary", "model.torch", "model.jax",
    "optimizer.torch", "optimizer.jax", "schedule.function",
)  # fmt: skip
NOISE = "task.noise."
# Files whose content counts since a later version than that which first stored digests.
ADDED_FILES = ("dataset.tokenizer", DATA)


def signature(config: Config) -> str:
    """Return the signature of a config."""
    return signature_of(plain(config))


def is_same_experiment(
    stored: str | None,
    config: Mapping[str, object],
    files: Mapping[str, str | None] | None,
    wanted: str,
) -> bool:
    """Return whether a stored run is the experiment with the signature `wanted`.

    Keys of its config that were added since count at their defaults, and files whose digests were not
    stored then count as they are now. A default that has changed since makes another experiment: the stored
    config has the old value.

    Args:
        stored: the signature of the run.
        config: its config in plain containers.
        files: the digests of files that are stored with it; None in runs of earlier versions.
        wanted: the signature of another, by this version.
    """
    if stored is None or stored == wanted:
        return stored == wanted
    return signature_with_added_keys(stored, config, files) == wanted


def signature_with_added_keys(
    stored: str, config: Mapping[str, object], files: Mapping[str, str | None] | None
) -> str | None:
    """Return the signature of a stored run by this version; None if it is not another.

    The arguments are those of `is_same_experiment`.
    """
    now, digests = completed(config), digests_stored(config, files)
    added = _digests_added(now, digests)
    if (now == config and not added) or stored != signature_of(config, digests=digests):
        return None  # of this version; or of another meaning, or edited
    return signature_of(now, digests=digests | added)


def is_of_earlier_version(
    config: Mapping[str, object], files: Mapping[str, str | None] | None
) -> bool:
    """Return whether a stored run lacks keys or digests of this version."""
    given = flat(config)
    lacks = files is None or any(given.get(key) and key not in files for key in ADDED_FILES)
    return lacks or completed(config) != config


def digests_stored(
    config: Mapping[str, object], files: Mapping[str, str | None] | None
) -> dict[str, str | None]:
    """Return the digests that a stored signature covers: `files`, or those of now where none are stored."""
    if files is not None:
        return dict(files)
    return {key: digest for key, digest in digests_of(config).items() if key not in ADDED_FILES}


def _digests_added(
    config: Mapping[str, object], stored: Mapping[str, str | None]
) -> dict[str, str | None]:
    """Return the digests, as of now, of files that an earlier version did not store."""
    given = flat(config)
    missing = [key for key in ADDED_FILES if given.get(key) and key not in stored]
    digests = digests_of(config) if missing else {}
    return {key: digests[key] for key in missing}


def signature_of(
    config: Mapping[str, object],
    meaning: int = MEANING,
    digests: Mapping[str, str | None] | None = None,
) -> str:
    """Return the signature of a config in plain containers, as `run.json` holds it, and of its meaning.

    `digests` are those of `digests_of`; None reads the files again.
    """
    relevant = {key: value for key, value in flat(config).items() if not is_irrelevant(key)}
    for key, digest in (digests_of(config) if digests is None else digests).items():
        if not _is_auto(key, str(relevant.get(key))):  # what is found follows from the code
            relevant[key] = [relevant.get(key), digest]
    if relevant.get("dataset.name") == "folder":  # its root is the data; that of others keeps files
        relevant["dataset.root"] = flat(config)["dataset.root"]
    hashed = relevant if meaning == 1 else [meaning, relevant]
    return sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()[:16]


def digests_of(config: Mapping[str, object], folder: Path | None = None) -> dict[str, str | None]:
    """Return the digests of the files whose content counts, by the dotted keys that name them.

    `folder` is that of a run, which holds the names that `model.names=auto` has found.
    """
    digests = {key: digest_of(file) for key, file in files_of(flat(config)).items()}
    if flat(config).get(DATA):
        digests[DATA] = fingerprint_of(flat(config))
    found = folder / FOUND_NAMES if folder else None
    if found and found.is_file() and _is_auto(NAMES, str(flat(config).get(NAMES))):
        digests[NAMES] = digest_of(found)
    return digests


def files_of(config: Mapping[str, object]) -> dict[str, Path | None]:
    """Return the files whose content counts, by the dotted keys that name them."""
    given = {key: str(config[key]) for key in FILES if config.get(key)}
    files = {key: _file_at(path) for key, path in given.items() if not _is_auto(key, path)}
    code = [*CODE, *(key for key in config if key.startswith(NOISE))]
    paths = {key: str(config[key]).partition(":") for key in code if config.get(key)}
    modules = {key: module for key, (module, colon, _) in paths.items() if colon}
    return files | {key: _module_file(module) for key, module in modules.items()}


def _file_at(name: str) -> Path:
    """Return the file of that name; of a run's folder the one with its result."""
    path = Path(name).expanduser()
    return weights_in(path) or path / RESULT if path.is_dir() else path


def _module_file(name: str) -> Path | None:
    """Return the file of a module without importing it; None if it is not found."""
    below = name.replace(".", "/")
    for folder in dict.fromkeys([*sys.path, os.getcwd()]):
        for file in (Path(folder, below, "__init__.py"), Path(folder, f"{below}.py")):
            if file.is_file():
                return None if "site-packages" in file.parts else file  # a version of a library
    return None


def _is_auto(key: str, value: str) -> bool:
    return key == NAMES and value == AUTO_NAMES


def digest_of(path: Path | None) -> str | None:
    """Return the digest of a file, or of all files of weights in parts; None if it is not there."""
    if path is None:
        return None
    try:
        files = weight_files(path, "model.weights")
        digests = [_digest_of_file(file, stamp_of(file)) for file in files]
    except (OSError, UserError):
        return None
    return digests[0] if len(digests) == 1 else sha256("".join(digests).encode()).hexdigest()


@lru_cache(maxsize=1024)  # a sweep asks for each of its jobs
def _digest_of_file(path: Path, stamp: Stamp) -> str:
    del stamp
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def flat(tree: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return a nested config with dotted keys."""
    leaves: dict[str, object] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves |= flat(value, f"{prefix}{key}.")
        else:
            leaves[f"{prefix}{key}"] = value
    return leaves


def is_irrelevant(key: str) -> bool:
    """Return whether a dotted key, or a node above it, cannot change the result."""
    parts = key.split(".")
    return any(".".join(parts[:depth]) in IRRELEVANT for depth in range(1, len(parts) + 1))
