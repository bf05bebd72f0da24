"""`python -m pipeline.compare`: its output and files, and how it watches running jobs."""

import csv
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_runs import write_predictions

from pipeline.atomic_files import write_json
from pipeline.compare.__main__ import main
from pipeline.compare.comparison import comparison
from pipeline.compare.table import csv_table, markdown
from pipeline.storage.run_folder import SWEEP

ROOT = Path(__file__).parents[3]


def lines(*losses):
    return [
        {"step": 10 * n, "train/loss": loss, "val/loss": loss, "perf/seconds": 2.0 * n}
        for n, loss in enumerate(losses, start=1)
    ]


@pytest.fixture
def sweep(write_run, tmp_path):
    """Folder of a finished pair and a failed job."""
    for name, loss in (("torch", 0.25), ("jax", 0.125)):
        test = {"test/loss": loss, "test/accuracy": 0.5}
        best = {"metric": "val/loss", "value": loss}
        result = {"test": test, "best": best}
        write_run(f"sweep/{name}", f"backend={name}", lines(1.0, loss), result)
    failed = {"status": "failed", "error": "train/loss is nan at step 7", "throughput": None}
    write_run("sweep/wild", "backend=jax optimizer.lr=9", lines(1.0), failed)
    return tmp_path / "sweep"


def test_the_terminal_shows_differences_outcomes_and_the_path_of_the_report(sweep, capsys):
    assert main([str(sweep)]) == 0
    output = capsys.readouterr().out
    table = output.partition("the same?")[0]
    assert [line.split()[0] for line in table.splitlines() if "optimizer.lr" in line] == [
        "backend=jax",
        "backend=torch",
        "backend=jax",
    ]
    for words in ("completed", "failed", "0.25", "0.125", "best val/loss", "setup", "compile"):
        assert words in table, words
    assert "train/loss is nan at step 7" in output
    assert f"→  {sweep}/report.html" in output


@pytest.mark.parametrize(
    ("columns", "shown", "hidden"),
    [
        (92, "samples/s", "best val/loss"),
        (104, "best val/loss", "setup"),
        (170, "setup", "nothing"),
    ],
)
def test_a_narrow_terminal_shows_fewer_columns(sweep, capsys, monkeypatch, columns, shown, hidden):
    from rich.console import Console

    from pipeline.compare import show

    console = Console(width=columns, file=io.StringIO())
    show(comparison([sweep]), console)
    head = console.file.getvalue().partition("──")[0]
    assert shown in head
    assert hidden not in head
    assert max(map(len, console.file.getvalue().partition("the same?")[0].splitlines())) <= columns


def test_csv_has_all_digits_and_errors(sweep):
    rows = list(csv.DictReader(io.StringIO(csv_table(comparison([sweep], price=3.6)))))
    assert [row["status"] for row in rows] == ["completed", "completed", "failed"]
    assert rows[1]["test/loss"] == "0.25"
    assert rows[1]["cost"] == "0.01"  # ten seconds
    assert rows[2]["error"] == "train/loss is nan at step 7"
    assert rows[0]["folder"] == str(sweep / "jax")


def test_markdown_has_the_table_and_the_verdict(sweep):
    text = markdown(comparison([sweep]))
    assert text.splitlines()[0].startswith("| run | status | test/loss | test/accuracy | seconds |")
    assert "| backend=torch optimizer.lr=0.003 | completed | 0.25 | 0.5 | 10.0 | 1,000 |" in text
    assert "- optimizer.lr=0.003: the same weights at step 0 and the same batches: " in text


EVIL = "<img src=x onerror=alert(1)>|x\\\n![a](javascript:b) & c"


def test_markdown_and_csv_escape_names_and_errors(write_run, tmp_path):
    for seed, name in enumerate((EVIL, '=cmd|"/c calc"!A1', "@SUM(1)", "+1", "-1", "plain")):
        write_run(str(seed), f"seed={seed}", result={"status": "failed", "error": name})
    made = comparison([tmp_path])
    made.notes.append(EVIL)
    for record in made.records:
        record.name = record.result.error
    text = markdown(made)
    escaped = r"&lt;img src=x onerror=alert(1)&gt;\|x\\ ![a]\(javascript:b) &amp; c"
    assert f"\n| {escaped} | failed |" in text
    assert f"\n- {escaped}\n" in text
    assert "<" not in text
    rows = list(csv.DictReader(io.StringIO(csv_table(made))))
    names = [EVIL, '\'=cmd|"/c calc"!A1', "'@SUM(1)", "'+1", "'-1", "plain"]
    assert [row["run"] for row in rows] == [row["error"] for row in rows] == names


def test_files_are_written_into_the_sweep_or_the_folder_given_with_to(sweep, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([str(sweep)]) == 0
    assert {"report.html", "comparison.md", "comparison.csv"} <= {p.name for p in sweep.iterdir()}
    assert main([str(sweep / "torch"), str(sweep / "jax")]) == 0
    assert (tmp_path / "outputs" / "comparison" / "report.html").exists()
    assert main([str(sweep), "--to", "elsewhere"]) == 0
    assert (tmp_path / "elsewhere" / "report.html").exists()


def test_figures_are_written_as_png_and_svg_for_every_plot(sweep, tmp_path):
    assert main([str(sweep), "--figures", "--to", str(tmp_path / "out")]) == 0
    found = {path.name for path in (tmp_path / "out" / "figures").iterdir()}
    names = (
        "curve-train-loss",
        "curve-val-loss",
        "difference-train-loss",
        "speed",
        "memory",
        "time",
    )
    assert found >= {
        f"{name}.{kind}" for name in (*names, "coordinates") for kind in ("png", "svg")
    }
    svg = (tmp_path / "out" / "figures" / "curve-val-loss.svg").read_text()
    for backend in ("torch", "jax"):
        assert f"backend={backend} optimizer.lr=0.003" in svg
    assert (tmp_path / "out" / "figures" / "speed.png").read_bytes().startswith(b"\x89PNG")


def test_the_confusion_figure_shows_class_names(write_run, tmp_path):
    run = write_run("run")  # without curves, whose figures take seconds
    write_predictions(run, classes=3, names=["cat", "$dog$", "<b>"])
    assert main([str(tmp_path / "run"), "--figures", "--to", str(tmp_path / "out")]) == 0
    svg = (tmp_path / "out" / "figures" / "confusion-run.svg").read_text()
    for name in (">cat<", ">$dog$<", ">&lt;b&gt;<"):
        assert svg.count(name) == 2, "across and up"


def test_the_seconds_to_a_target_are_shown(sweep, capsys):
    assert main([str(sweep), "--target", "val/loss=0.2"]) == 0
    table = capsys.readouterr().out.partition("the same?")[0]
    assert "s to 0.2" in table
    [jax] = [line for line in table.splitlines() if "0.125" in line]
    assert " 4.0 " in jax
    [torch] = [line for line in table.splitlines() if "0.25" in line]
    assert "never" in torch
    assert main([str(sweep), "--target", "val/nope=0.2"]) == 0
    assert "no run has logged the target val/nope, only train/loss" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: must be a run or a sweep. Runs are below outputs/."),
        (["{}", "nowhere"], "nowhere: must be a run or a sweep. Runs are below outputs/."),
        (["{}", "--target", "soon"], "--target=soon: must be KEY=VALUE"),
        (["{}", "--target", "val/loss=low"], "--target=val/loss=low: must be KEY=VALUE"),
        (["{}", "--price", "-1"], "--price=-1.0: must be a number, 0 or more"),
        (["{}", "--watch", "0"], "--watch=0.0: must be seconds above 0"),
        (
            ["{}", "--to", "/proc/nothing"],
            "--to=/proc/nothing: this folder cannot be written",
        ),
    ],
)
def test_bad_input_gets_one_message(sweep, capsys, arguments, message):
    assert main([word.format(sweep) for word in arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert len(error.splitlines()) <= 2


def test_watching_ends_when_no_run_and_no_sweep_is_running(sweep, write_run):
    """The running job and the sweep are stand-in processes, recognised by the name run.py."""
    running = write_run("sweep/late", "seed=5", lines(1.0), result=None)
    program = sweep / "run.py"
    program.write_text("import time; time.sleep(300)")
    jobs = [subprocess.Popen([sys.executable, str(program)]) for _ in range(2)]
    import platform

    facts = {"signature": "late", "host": platform.node(), "config": None}
    write_json(running / "run.json", facts | {"process": jobs[0].pid})
    write_json(sweep / SWEEP, {"host": platform.node(), "process": jobs[1].pid})
    watching = subprocess.Popen(
        [sys.executable, "-m", "pipeline.compare", str(sweep), "--watch", "0.2"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with watching:
        for job, count in zip(jobs, (1, 0), strict=True):
            for line in watching.stdout:
                if line.startswith(f"{count} of 4 running, refreshes every 0.2 s  →  "):
                    break
            job.kill()
            job.wait()
        rest = watching.stdout.read()
    assert watching.returncode == 0
    assert sum(line.startswith("comparison") for line in rest.splitlines()) == 1
    assert "the run ended without writing one" in rest
