"""Reader of W&B's offline run files, so that tests see what a run really logged.

A `.wandb` file is a LevelDB-style log: a header of 7 bytes (`:W&B`, 0xBEE1, a version), then blocks
of 32 KiB. Records are cut into chunks that fit into a block, each with a CRC-32 of its type and
data, a length and a type (whole, first, middle, last). A record is a protobuf `Record`.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

HEADER = struct.pack("<4sHB", b":W&B", 0xBEE1, 0)
BLOCK = 32 * 1024
CHUNK = struct.Struct("<IHB")  # CRC, length, type
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


@dataclass
class Artifact:
    """An artifact as the file of a run records it.

    Attributes:
        contents: local path of each file, by its path in the artifact.
    """

    name: str
    type: str
    aliases: list[str]
    metadata: dict[str, Any]
    contents: dict[str, Path]


@dataclass
class Run:
    """A run as recorded by its files; later files override keys and steps of earlier ones."""

    id: str
    group: str = ""
    job_type: str = ""
    name: str = ""
    project: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    history: dict[int, dict[str, Any]] = field(default_factory=dict)  # by W&B's step
    files: list[Path] = field(default_factory=list)
    artifacts: list[Artifact] = field(default_factory=list)
    stats: list[dict[str, Any]] = field(default_factory=list)  # samples of system metrics

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Rows of the history by step, with W&B's own `_step`, `_timestamp` and `_runtime`."""
        return [self.history[step] for step in sorted(self.history)]

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """Rows with `step` and the logged values, without W&B's own keys."""
        return [
            {"step": row["_step"]} | {key: row[key] for key in row if not key.startswith("_")}
            for row in self.rows
        ]


def read_run(folder: Path) -> Run:
    """The one run in `folder`, from however many files (a resumed offline run has several)."""
    runs = read_runs(folder)
    assert len(runs) == 1, f"expected one W&B run under {folder}, found {[run.id for run in runs]}"
    return runs[0]


def read_runs(folder: Path) -> list[Run]:
    """Every run below `folder`; files of one id are one run."""
    # `wandb/latest-run` is a link to one of the others.
    paths = sorted({path.resolve() for path in Path(folder).rglob("*.wandb")})
    runs: dict[str, Run] = {}
    for path in paths:
        identity = path.stem.removeprefix("run-")
        run = runs.setdefault(identity, Run(identity))
        run.files.append(path)
        for record in records(path):
            _apply(run, record)
    return list(runs.values())


def records(path: Path) -> Iterator[Record]:
    """Records of a file, up to the first damaged one."""
    data = path.read_bytes()
    assert data.startswith(HEADER), f"{path} is not a W&B file"
    position, parts = len(HEADER), b""
    while position + CHUNK.size <= len(data):
        left = BLOCK - position % BLOCK
        if left < CHUNK.size:  # too little for a chunk: zeros up to the block's end
            position += left
            continue
        crc, length, kind = CHUNK.unpack_from(data, position)
        position += CHUNK.size
        chunk = data[position : position + length]
        if len(chunk) < length or zlib.crc32(bytes([kind]) + chunk) != crc:
            return
        position += length
        parts = chunk if kind in (WHOLE, FIRST) else parts + chunk
        if kind in (WHOLE, LAST):
            yield Record.FromString(parts)


def _apply(run: Run, record: Record) -> None:
    match record.WhichOneof("record_type"):
        case "run":
            run.group, run.name = record.run.run_group, record.run.display_name
            run.job_type = record.run.job_type
            run.project, run.tags = record.run.project, list(record.run.tags)
            _update(run.config, record.run.config.update)
        case "config":
            _update(run.config, record.config.update)
        case "summary":
            _update(run.summary, record.summary.update)
        case "history":
            row: dict[str, Any] = {}
            _update(row, record.history.item)
            run.history.setdefault(row["_step"], {}).update(row)
        case "stats":
            sample: dict[str, Any] = {}
            _update(sample, record.stats.item)
            run.stats.append(sample)
        case "artifact":
            run.artifacts.append(_artifact(record.artifact))
        case "exit":
            run.exit_code = record.exit.exit_code


def _artifact(record: Any) -> Artifact:
    metadata = json.loads(record.metadata) if record.metadata else {}
    contents = {entry.path: Path(entry.local_path) for entry in record.manifest.contents}
    return Artifact(record.name, record.type, list(record.aliases), metadata, contents)


def _update(target: dict[str, Any], items: Any) -> None:
    for item in items:
        key = item.key or ".".join(item.nested_key)
        if key != "_wandb" and not key.startswith("_wandb."):  # its own book-keeping
            target[key] = json.loads(item.value_json)
