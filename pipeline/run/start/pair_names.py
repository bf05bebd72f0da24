"""`model.names=auto`: the file of names of a user's pair, found by itself and kept in the run's folder."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pipeline.atomic_files import read_json, write_json, write_text
from pipeline.backend_specs import BACKENDS
from pipeline.commands import command
from pipeline.config.experiment import Config, plain
from pipeline.config.models import AUTO_NAMES, OwnConfig
from pipeline.console import print_and_log
from pipeline.data.dataset import Data
from pipeline.errors import UserError
from pipeline.storage.names_path import is_auto, names_in
from pipeline.storage.signature import digest_of, digests_of

FORMAT = 1  # of the cache, raised when the same models are aligned in another way
CACHE = Path(os.environ.get("TANDEM_CACHE", Path.home() / ".cache" / "tandem")) / "names"
LIBRARIES = ("torch", "jax", "flax", "equinox", "transformers", "timm")
PARTIAL = "names.partial.yaml"


def provide_names(
    config: Config, data: Callable[[], Data], folder: Path, source: Path | None
) -> None:
    """Put the file of names of `model.names=auto` into a run's folder; nothing without it, or of one side.

    `source` is the run that it goes on from, or tests: that has the names already. Otherwise the models are
    aligned, unless the same were before.

    Raises:
        UserError: a model cannot be made, or their parameters do not belong together for sure.
    """
    if not is_auto(config.model):
        return
    target = names_in(folder)
    known = names_in(source) if source else None
    if known and known.is_file():
        if known.resolve() != target.resolve():
            copy_names(config, source, folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    text, summary = _found(config, data, folder)
    write_text(target, text)
    print_and_log(f"model.names=auto: {summary}  →  {target}", soft_wrap=True)


def copy_names(config: Config, source: Path | None, folder: Path) -> None:
    """Copy the file of names of `model.names=auto`, if a run has one, for another run of its model."""
    if source and is_auto(config.model) and names_in(source).is_file():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(names_in(source), names_in(folder))


def _found(config: Config, data: Callable[[], Data], folder: Path) -> tuple[str, str]:
    """Return the text of the file and a line about it: from the cache, or of an alignment.

    The jobs of a sweep wait for the first of them.
    """
    loaded = data()
    entry = CACHE / f"{_key(config, loaded)}.json"
    with _locked(entry):
        if content := _cached(entry):
            return content["names"], content["summary"]
        text, summary, files = _aligned(config, loaded, folder)
        digests = {file: digest_of(Path(file)) for file in files}
        with suppress(OSError):  # a cache that cannot be written only costs time
            content = {"files": digests, "summary": summary, "names": text}
            write_json(entry, content)
        return text, summary


def _cached(entry: Path) -> dict[str, str] | None:
    """Return an entry of the cache whose files of the user's code are as they were."""
    content = read_json(entry)
    if not content or not {"files", "names", "summary"} <= content.keys():
        return None
    is_current = all(digest_of(Path(f)) == digest for f, digest in content["files"].items())
    return content if is_current else None


def _key(config: Config, data: Data) -> str:
    """Return a digest of what decides how two models are aligned, but for files that they import."""
    model = plain(config)["model"]
    asked = {name: model[name] for name in (*BACKENDS, "options")}
    shapes = [data.call_shapes, data.input_shape, data.outputs, dict(data.sizes), data.task.name]
    sides = {f"model.{name}" for name in BACKENDS}
    code = {key: digest for key, digest in digests_of(plain(config)).items() if key in sides}
    parts = [FORMAT, asked, shapes, code, {name: _version(name) for name in LIBRARIES}]
    return sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:24]


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


@contextmanager
def _locked(entry: Path) -> Generator[None]:
    """Let one process align; the kernel releases the lock of one that dies."""
    lock = None
    with suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        lock = entry.with_suffix(".lock").open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if lock:
            lock.close()


def _aligned(config: Config, data: Data, folder: Path) -> tuple[str, str, list[str]]:
    """Align the two models; return the file's text, a line about it, and the user's files."""
    from pipeline.verify.own_pair import align_own_pair  # late: it imports SciPy

    model = config.model
    assert isinstance(model, OwnConfig)
    print_and_log("model.names=auto: the two models are aligned, each in its own process")
    pair = align_own_pair(config, data)
    path = folder / PARTIAL
    pair.write(path)
    if pair.doubt:
        problem = f"the two models cannot be aligned without doubt: {pair.doubt}"
        hint = (
            f"Mend the models, or correct {path} and set model.names to it. "
            f"{command('verify')} {model.torch} {model.jax} tells more."
        )
        raise UserError("model.names", AUTO_NAMES, problem=problem, hint=hint)
    text = path.read_text(encoding="utf-8")
    path.unlink()
    for note in pair.case.verdict.notes:
        print_and_log(f"model.names=auto: {note}", soft_wrap=True)
    return text, pair.summary, [*pair.files]
