"""Run folders written by hand for the tests of the comparison."""

import json
from pathlib import Path

import pytest

from pipeline.config.experiment import plain


@pytest.fixture
def write_run(configure, tmp_path):
    """A function that writes a run folder below `tmp_path`."""

    def write(name, overrides="", rows=(), result=(), identity=False) -> Path:
        """Write a run.

        Args:
            name: the name of the folder.
            overrides: overrides of the config; None for a job that was refused.
            rows: rows of metrics.jsonl, or its bytes.
            result: changes of a finished run's result.json; None writes no result.
            identity: whether to write run.json beside the result.
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
