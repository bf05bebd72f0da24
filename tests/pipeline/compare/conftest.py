"""Runs as their folders tell of them, written by hand in a moment."""

import json
from pathlib import Path

import pytest

from pipeline.config import plain


@pytest.fixture
def write_run(configure, tmp_path):
    """A function that writes the folder of a run below `tmp_path`."""

    def write(name, overrides="", rows=(), result=(), identity=False) -> Path:
        """Write a run.

        Args:
            name: of the folder.
            overrides: that its config is made of; None for a job that was refused.
            rows: of metrics.jsonl, or its bytes.
            result: of result.json, beside what a finished run has; None writes no result.
            identity: whether run.json is there beside the result.
        """
        folder = tmp_path / name
        folder.mkdir(parents=True)
        config = None if overrides is None else plain(configure(f"logger=none {overrides}"))
        content = rows
        if not isinstance(rows, bytes):
            content = "".join(json.dumps(row) + "\n" for row in rows).encode()
        (folder / "metrics.jsonl").write_bytes(content)
        if identity or result is None:
            facts = {"signature": name, "host": "elsewhere", "process": 1, "config": config}
            (folder / "run.json").write_text(json.dumps(facts))
        if result is not None:
            whole = {
                "status": "completed",
                "name": name,
                "config": config,
                "init_digest": "a",
                "data_digest": "b",
                "seconds": {"setup": 1, "compile": 2, "train": 3, "eval": 4, "total": 10},
                "throughput": 1000.0,
                "peak_memory_mb": 300.0,
                "steps": 100,
            } | dict(result)
            (folder / "result.json").write_text(json.dumps(whole))
        return folder

    return write
