"""`python -m pipeline.compare`: what it prints and writes, and how it follows runs that go on."""

import csv
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_runs import write_predictions, write_run

from pipeline.compare.__main__ import main
from pipeline.compare.comparison import comparison
from pipeline.compare.table import csv_table, markdown
from pipeline.runs import SWEEP, write_json

ROOT = Path(__file__).parents[3]


def lines(*losses):
    return [
        {"step": 10 * n, "train/loss": loss, "val/loss": loss, "perf/seconds": 2.0 * n}
        for n, loss in enumerate(losses, start=1)
    ]


@pytest.fixture
def sweep(write_run, tmp_path):
    """A finished pair, and a job that has failed."""
    for name, loss in (("torch", 0.25), ("jax", 0.125)):
        test = {"test/loss": loss, "test/accuracy": 0.5}
        best = {"metric": "val/loss", "value": loss}
        result = {"test": test, "best": best}
        write_run(f"sweep/{name}", f"backend={name}", lines(1.0, loss), result)
    failed = {"status": "failed", "error": "train/loss is nan at step 7", "throughput": None}
    write_run("sweep/wild", "backend=jax optimizer.lr=9", lines(1.0), failed)
    return tmp_path / "sweep"


def test_the_terminal_tells_what_differs_how_it_ended_and_where_it_is(sweep, capsys):
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
def test_a_narrow_terminal_shows_less(sweep, capsys, monkeypatch, columns, shown, hidden):
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


def test_files_are_written_into_the_sweep_or_where_somebody_says(sweep, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([str(sweep)]) == 0
    assert {"report.html", "comparison.md", "comparison.csv"} <= {p.name for p in sweep.iterdir()}
    assert main([str(sweep / "torch"), str(sweep / "jax")]) == 0
    assert (tmp_path / "outputs" / "comparison" / "report.html").exists()
    assert main([str(sweep), "--to", "elsewhere"]) == 0
    assert (tmp_path / "elsewhere" / "report.html").exists()


def test_figures_are_png_and_svg_of_every_plot(sweep, tmp_path):
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


def test_a_figure_of_the_confusion_names_the_classes(tmp_path):
    write_predictions(write_run(tmp_path / "run"), classes=3, names=["cat", "$dog$", "<b>"])
    assert main([str(tmp_path / "run"), "--figures", "--to", str(tmp_path / "out")]) == 0
    svg = (tmp_path / "out" / "figures" / "confusion-run.svg").read_text()
    for name in (">cat<", ">$dog$<", ">&lt;b&gt;<"):
        assert svg.count(name) == 2, "across and up"


def test_a_target_is_told_in_seconds(sweep, capsys):
    assert main([str(sweep), "--target", "val/loss=0.2"]) == 0
    table = capsys.readouterr().out.partition("the same?")[0]
    assert "s to 0.2" in table
    [jax] = [line for line in table.splitlines() if "0.125" in line]
    assert " 4.0 " in jax
    [torch] = [line for line in table.splitlines() if "0.25" in line]
    assert "never" in torch


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "PATH=nowhere: must be a run or a sweep"),
        (["{}", "--target", "soon"], "--target=soon: must be KEY=VALUE"),
        (["{}", "--target", "val/loss=low"], "--target=val/loss=low: must be KEY=VALUE"),
        (["{}", "--watch", "0"], "--watch=0.0: must be seconds above 0"),
        (
            ["{}", "--to", "/proc/nothing"],
            "--to=/proc/nothing: must be a folder that can be written",
        ),
    ],
)
def test_bad_input_gets_one_message(sweep, capsys, arguments, message):
    assert main([word.format(sweep) for word in arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert len(error.splitlines()) <= 2


def test_watching_ends_when_nothing_runs_and_no_sweep_goes_on(sweep, write_run):
    """The run that goes on, and the sweep, are processes as they are told by: of a run.py."""
    running = write_run("sweep/late", "seed=5", lines(1.0), result=None)
    program = sweep / "run.py"
    program.write_text("import sys, time; time.sleep(float(sys.argv[1]))")
    jobs = [subprocess.Popen([sys.executable, str(program), seconds]) for seconds in ("3", "6")]
    import platform

    facts = {"signature": "late", "host": platform.node(), "config": None}
    write_json(running / "run.json", facts | {"process": jobs[0].pid})
    write_json(sweep / SWEEP, {"host": platform.node(), "process": jobs[1].pid})
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.compare", str(sweep), "--watch", "0.2"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.splitlines() if " of 4 run  →  " in line]
    assert told[0].startswith("1 of 4 run")
    assert told[-1].startswith("0 of 4 run")
    assert all(job.poll() is not None for job in jobs)
    assert time.monotonic() - began > 3
    assert done.stdout.count("comparison\n") <= 1
    assert "the run ended without a word" in done.stdout
