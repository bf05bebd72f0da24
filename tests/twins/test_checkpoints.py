"""Checkpoints on either backend: which one is chosen, which run owns it, and how many are kept."""

import csv
import json
import shutil

import pytest
from asserts import without_perf
from made_runs import OTHER
from short_runs import FP64, MLP, SELDOM, lines

from lightning_impl.checkpoints import Checkpoints
from pipeline.convert import convert
from pipeline.errors import RunFailed, UserError
from pipeline.run.recording.recorder import Recorder
from pipeline.run.unfinished_runs import find_unfinished_run
from pipeline.storage.checkpoints import checkpoint_of_step, checkpoints_of
from pipeline.storage.run_folder import RunFolder
from pipeline.sweep.job_status import JobState, job_status

BOTH = pytest.mark.parametrize("backend", ["torch", "jax"])
BEST_AT_FIRST = f"{FP64} model=linear optimizer=rmsprop optimizer.lr=1e-9 schedule=constant"


@BOTH
def test_testing_a_completed_run_reports_which_checkpoint_it_used_and_why(
    train, tmp_path, capsys, backend
):
    run = tmp_path / "first"
    assert train("first", backend, BEST_AT_FIRST) == 0
    wanted, best = RunFolder(run).result.test, checkpoint_of_step(run, 5).path
    newest = checkpoints_of(run)[0].path
    written = (run / "result.json").read_text()

    def tested(name, tester=backend):
        assert train(name, tester, f"{BEST_AT_FIRST} mode=test checkpoint={run}") == 0
        return RunFolder(tmp_path / name).result.test, capsys.readouterr().out

    found, output = tested("by-result")
    assert found == wanted
    assert f"testing {best} (the best: val/accuracy " in output
    assert "by result.json)" in output
    (run / "result.json").write_text(written[:100])
    for name, tester in (("torn", backend), ("torn-other", OTHER[backend])):
        found, output = tested(name, tester)
        assert found == pytest.approx(wanted, rel=1e-10)
        assert f"testing {best} (the best: val/accuracy " in output
        assert f"by {newest.name}, since result.json does not tell)" in output
    convert(run, tmp_path / "w.safetensors")
    assert "weights of step 5 (the best: " in capsys.readouterr().out
    for path in (run / "checkpoints").glob("*000005*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    _, output = tested("gone")
    assert f"testing {newest} (the newest: the best, of step 5 by {newest.name}, " in output
    assert "is gone)" in output


@BOTH
def test_a_run_that_resumes_in_another_folder_takes_its_logs_and_best_checkpoint_along(
    train, tmp_path, capsys, backend
):
    first, second = tmp_path / "first", tmp_path / "second"
    assert train("whole", backend, BEST_AT_FIRST) == 0
    assert train("first", backend, f"{BEST_AT_FIRST} train.stop_after=13") == 130
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    other_signature = f"{BEST_AT_FIRST} train.early_stopping=99"
    assert train("second", backend, f"{other_signature} resume={first}") == 0
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == before
    assert lines(second) == lines(tmp_path / "whole")
    whole, result = RunFolder(tmp_path / "whole").result, RunFolder(second).result
    assert (result.best.step, result.best.value) == (5, whole.best.value)
    assert result.best.checkpoint == str(checkpoint_of_step(second, 5).path)
    assert result.resumed_from == str(checkpoint_of_step(first, 13).path)
    assert result.test == whole.test
    assert sorted(one.step for one in checkpoints_of(second)) == [5, 25, 30]
    capsys.readouterr()
    assert train("tested", backend, f"{BEST_AT_FIRST} mode=test checkpoint={second}") == 0
    assert f"testing {result.best.checkpoint} (the best: " in capsys.readouterr().out


@BOTH
def test_a_checkpoint_of_another_run_is_refused(train, tmp_path, backend):
    short = f"{SELDOM} {MLP} train.stop_after=12"
    for seed in (0, 1):
        assert train(f"seed{seed}", backend, f"{short} seed={seed}") == 130
    run, other = tmp_path / "seed0", tmp_path / "seed1"
    shutil.rmtree(run / "checkpoints")
    shutil.copytree(other / "checkpoints", run / "checkpoints")
    for attempt in (
        lambda: train("tested", backend, f"{SELDOM} {MLP} mode=test checkpoint={run}"),
        lambda: train("seed0", backend, f"{SELDOM} {MLP} resume={run}"),
        lambda: train("moved", OTHER[backend], f"{SELDOM} {MLP} resume={run}"),
        lambda: convert(run, tmp_path / "converted"),
    ):
        with pytest.raises(UserError, match=r"another run wrote it \(its signature is ") as caught:
            attempt()
        assert "Put it back into its own run" in caught.value.hint
    assert not (tmp_path / "converted").exists()


@BOTH
def test_a_run_resumed_with_other_keys_still_owns_its_older_checkpoints(train, tmp_path, backend):
    run = tmp_path / "first"
    assert train("first", backend, f"{SELDOM} {MLP} train.stop_after=12") == 130
    for rate, stop in ((0.01, 13), (0.02, 14)):
        changed = f"{SELDOM} {MLP} optimizer.lr={rate} train.stop_after={stop} resume={run}"
        assert train("first", backend, changed) == 130
    older = checkpoint_of_step(run, 13).path
    assert train("first", backend, f"{SELDOM} {MLP} optimizer.lr=0.03 resume={older}") == 0
    identity = json.loads((run / "run.json").read_text())
    assert len({identity["signature"], *identity["earlier_signatures"]}) == 4


@BOTH
def test_however_often_a_run_stops_it_keeps_the_best_and_two_other_checkpoints(
    train, tmp_path, backend
):
    resume = ""
    for step in (6, 12, 23):
        assert train("first", backend, f"{BEST_AT_FIRST} {resume} train.stop_after={step}") == 130
        resume = f"resume={tmp_path / 'first'}"
    kept = sorted({checkpoint.step for checkpoint in checkpoints_of(tmp_path / "first")})
    assert kept == [5, 20, 23]
    assert train("first", backend, f"{BEST_AT_FIRST} {resume}") == 0
    kept = sorted({checkpoint.step for checkpoint in checkpoints_of(tmp_path / "first")})
    assert kept == [5, 25, 30]
    assert len(list((tmp_path / "first" / "checkpoints").iterdir())) == 3


@pytest.mark.parametrize("damage", ["empty", "torn"])
def test_a_run_whose_first_checkpoint_was_cut_off_starts_again(
    train, configure, tmp_path, capsys, damage
):
    case, run = f"{FP64} {MLP}", tmp_path / "first"
    assert train("first", "torch", f"{case} train.stop_after=3") == 130
    path = checkpoint_of_step(run, 3).path
    path.write_bytes(b"" if damage == "empty" else path.read_bytes()[:900])
    with pytest.raises(UserError, match=r"its first save, last-000003\.ckpt, was cut off"):
        train("second", "torch", f"{case} resume={run}")
    assert find_unfinished_run([f"hydra.run.dir={run}"]) is None
    assert "last-000003.ckpt, was cut off" in capsys.readouterr().out
    (run / "result.json").unlink()
    assert job_status(configure(f"backend=torch {case}"), run).state is JobState.restarted
    assert train("first", "torch", case) == 0
    assert train("whole", "torch", case) == 0
    assert lines(run) == lines(tmp_path / "whole")
    assert not path.exists()


def test_a_failed_save_leaves_no_file(train, tmp_path, monkeypatch):
    def fails(path, content):
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", fails)
    with pytest.raises(UserError, match="full"):
        train("first", "torch", f"{FP64} {MLP}")
    assert list((tmp_path / "first" / "checkpoints").iterdir()) == []


def test_the_checksum_covers_what_orbax_saves_beside_the_arrays(train, tmp_path):
    run, case = tmp_path / "first", f"{SELDOM} {MLP}"
    assert train("first", "jax", f"{case} train.stop_after=12") == 130
    path = checkpoint_of_step(run, 12).path / "memory" / "metadata"
    memory = json.loads(path.read_text())
    memory["recorder"]["best"]["value"] /= 2
    path.write_text(json.dumps(memory))
    with pytest.raises(UserError, match="what lies beside its arrays is not what was saved"):
        train("tested", "jax", f"{case} mode=test checkpoint={path.parent.parent}")
    # Checkpoints of earlier versions have no such checksum, nor a signature.
    del memory["memory_checksum"], memory["signature"]
    path.write_text(json.dumps(memory))
    assert train("first", "jax", f"{case} resume={run}") == 0


@BOTH
def test_a_run_whose_folder_is_deleted_fails_with_a_message(train, tmp_path, monkeypatch, backend):
    judge = Recorder.record_evaluation

    def delete(recorder, step, *values):
        if step == 10:
            (tmp_path / "first").rename(tmp_path / "elsewhere")  # whole, while Orbax may be writing
        return judge(recorder, step, *values)

    monkeypatch.setattr(Recorder, "record_evaluation", delete)
    with pytest.raises(RunFailed, match="first was deleted while the run was at work"):
        train("first", backend, f"{FP64} {MLP}")
    assert RunFolder(tmp_path / "first").result.status == "failed"


@BOTH
def test_the_test_is_logged_once_however_often_a_run_is_resumed(train, tmp_path, backend):
    run, case = tmp_path / "first", f"{SELDOM} {MLP} logger=csv"
    assert train("first", backend, case) == 0
    table, rows = (run / "metrics.csv").read_text(), lines(run)
    for _ in range(2):
        (run / "result.json").unlink()  # killed in the final test
        assert train("first", backend, f"{case} resume={run}") == 0
        assert lines(run) == rows
        ours, theirs = (
            without_perf(list(csv.DictReader(t)))
            for t in ((run / "metrics.csv").read_text().splitlines(), table.splitlines())
        )
        assert ours == theirs


def test_metrics_missing_before_the_checkpoint_are_reported(train, tmp_path, caplog):
    run, case = tmp_path / "first", f"{FP64} {MLP}"
    assert train("first", "jax", f"{case} train.stop_after=17") == 130
    path = run / "metrics.jsonl"
    whole = path.read_text()
    for content, missing in (
        ("".join(whole.splitlines(keepends=True)[:3]), "steps 9 to 16"),
        ("", "steps 1 to 16"),
    ):
        path.write_text(content)
        assert train("first", "jax", f"{case} train.stop_after=18 resume={run}") == 130
        assert f"{path} lacks {missing}" in caplog.text
        caplog.clear()
        shutil.rmtree(checkpoint_of_step(run, 18).path)
    path.write_text(whole)
    assert train("first", "jax", f"{case} train.stop_after=18 resume={run}") == 130
    assert "lacks" not in caplog.text
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=r"metrics.jsonl: a folder is in its place"):
        train("first", "jax", f"{case} resume={run}")


def test_only_the_rank_that_saves_removes_an_unfinished_save(train, tmp_path):
    run, case = tmp_path / "run", f"{FP64} {MLP}"
    assert train("run", "torch", f"{case} train.stop_after=12") == 130
    unfinished = run / "checkpoints" / ".last-000006.ckpt.999"
    unfinished.touch()
    Checkpoints(str(unfinished.parent), recorder=None)  # every rank makes one
    assert unfinished.exists()
    assert train("run", "torch", f"{case} resume={run}") == 0
    assert not unfinished.exists()
