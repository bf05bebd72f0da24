"""Identity and files of a run."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from pipeline.atomic_files import read_json, write_json
from pipeline.errors import RunFailed, UserError
from pipeline.run.resume import check_folder_is_free
from pipeline.run.unfinished_runs import find_resumable_run
from pipeline.storage.checkpoints import check_run_folder
from pipeline.storage.run_folder import RunFolder, files_below
from pipeline.storage.run_result import RunResult
from pipeline.storage.signature import signature


def test_a_run_keeps_its_identity_and_its_result(configure, tmp_path):
    config, folder = configure(), RunFolder(tmp_path / "sweep" / "job")
    assert folder.result is None
    assert folder.wandb_id() != folder.wandb_id()  # drawn anew until it is written down
    folder.identify(config)
    drawn = folder.wandb_id()
    folder.identify(replace(config, resume=str(folder.path)))
    assert folder.wandb_id() == drawn
    assert read_json(folder.path / "run.json")["signature"] == signature(config)
    folder.write_result(RunResult(status="completed", test={"loss": 0.1 + 0.2}))
    assert folder.result == RunResult(status="completed", test={"loss": 0.30000000000000004})


def test_a_file_is_replaced_atomically(tmp_path):
    path = tmp_path / "result.json"
    write_json(path, {"status": "failed"})
    circular = {}
    circular["self"] = circular
    with pytest.raises(ValueError, match="Circular"):
        write_json(path, circular)
    assert read_json(path) == {"status": "failed"}
    write_json(path, {"status": "completed"})
    assert [entry.name for entry in tmp_path.iterdir()] == ["result.json"]


def test_a_truncated_file_reads_as_none(tmp_path):
    (tmp_path / "torn.json").write_text('{"status": "comp')
    assert read_json(tmp_path / "torn.json") is None
    assert read_json(tmp_path / "missing.json") is None


def test_a_folder_that_cannot_be_created_is_refused(configure, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError, match=r"hydra\.run\.dir=.*/file/run: this folder cannot be written"
    ):
        RunFolder(tmp_path / "file" / "run").identify(configure())


def test_a_folder_on_a_read_only_disk_is_refused(configure, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match=f"resume={tmp_path}: this folder cannot be written"):
        check_folder_is_free(configure(f"resume={tmp_path}"), tmp_path)


def test_a_folder_with_checkpoints_of_a_run_is_not_overwritten(configure, tmp_path):
    config = configure()
    check_folder_is_free(config, tmp_path)  # an empty folder will do
    RunFolder(tmp_path).identify(config)
    check_folder_is_free(config, tmp_path)  # a run that came to nothing may be started again
    (tmp_path / "checkpoints" / "000001").mkdir(parents=True)
    with pytest.raises(UserError, match=r"hydra\.run\.dir=.*holds a run already.*resume=auto"):
        check_folder_is_free(config, tmp_path)
    with pytest.raises(UserError, match=r"name=mine: .*holds a run already"):
        check_folder_is_free(configure("name=mine"), tmp_path)
    check_folder_is_free(configure(f"resume={tmp_path} backend=jax"), tmp_path)
    with pytest.raises(UserError, match="holds a run already"):  # a checkpoint of jax's
        check_folder_is_free(configure(f"resume={tmp_path} backend=torch"), tmp_path)


def test_the_folder_of_a_running_run_is_refused(configure, tmp_path):
    folder, config = RunFolder(tmp_path), configure()
    folder.identify(config)
    other = subprocess.Popen(
        [sys.executable, "-c", "input(print(flush=True))", "run.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    other.stdout.readline()  # it is there
    identity = read_json(tmp_path / "run.json")
    write_json(tmp_path / "run.json", identity | {"process": other.pid})
    try:
        assert folder.running
        with pytest.raises(UserError, match="still running"):
            check_folder_is_free(config, tmp_path)
    finally:
        other.communicate()
    assert not folder.running
    check_folder_is_free(config, tmp_path)


@pytest.fixture
def outputs(tmp_path):
    """Runs of one experiment, (name, status or None, age in seconds), and one of another."""
    runs = [("old", "failed", 300), ("sweep/killed", None, 200), ("stopped", "interrupted", 100)]
    for name, status, age in [*runs, ("done", "completed", 50), ("other", "failed", 10)]:
        folder = RunFolder(tmp_path / name)
        folder.path.mkdir(parents=True)
        write_json(folder.path / "run.json", {"signature": "theirs" if name == "other" else "ours"})
        (folder.path / "checkpoints" / "000001").mkdir(parents=True)
        if status:
            folder.write_result(RunResult(status=status))
        stamp = (tmp_path / name / "run.json").stat().st_mtime - age
        os.utime(tmp_path / name / "run.json", (stamp, stamp))
    return tmp_path


def test_the_newest_unfinished_run_of_the_same_experiment_is_resumed(outputs):
    order = ["stopped", "sweep/killed", "old"]
    for name in order:
        assert find_resumable_run(outputs, "ours") == outputs / name
        RunFolder(outputs / name).write_result(RunResult(status="completed"))
    assert find_resumable_run(outputs, "ours") is None
    assert find_resumable_run(outputs / "nowhere", "ours") is None


def test_a_run_without_a_checkpoint_is_not_resumed(outputs):
    shutil.rmtree(outputs / "stopped" / "checkpoints")
    assert find_resumable_run(outputs, "ours") == outputs / "sweep" / "killed"


def test_a_run_with_a_truncated_run_json_is_skipped(outputs):
    (outputs / "stopped" / "run.json").write_text("{")
    assert find_resumable_run(outputs, "ours") == outputs / "sweep" / "killed"


def test_values_that_json_does_not_know_are_written_as_text(tmp_path):
    write_json(tmp_path / "a.json", {"path": tmp_path})
    assert json.loads((tmp_path / "a.json").read_text()) == {"path": str(tmp_path)}


def test_a_folder_with_only_checkpoints_counts_as_deleted(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(RunFailed, match="run was deleted while the run was at work"):
        check_run_folder(run)
    (run / "checkpoints").mkdir(parents=True)  # as Orbax makes it anew
    with pytest.raises(RunFailed, match="run was deleted while the run was at work"):
        check_run_folder(run)
    (run / "run.json").touch()
    check_run_folder(run)


def test_runs_are_found_without_searching_checkpoint_folders(tmp_path):
    for folder in ("checkpoints/run", "a/run", "a/run/checkpoints/000010", "a/run/checkpoints/run"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "run.json").touch()
    found = [tmp_path / "a/run/run.json", tmp_path / "checkpoints/run/run.json"]
    assert files_below(tmp_path, "run.json", "result.json") == found
    assert files_below(tmp_path / "a/run", "run.json") == found[:1]
    assert files_below(tmp_path / "nowhere", "run.json") == []
