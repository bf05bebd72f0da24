"""`python -m pipeline.bench` as a user calls it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.bench.__main__ import interruptible, main
from pipeline.bench.results import Bench, Measured
from pipeline.bench.statistics import FEWEST
from pipeline.compare.conditions import PHRASES

ROOT = Path(__file__).parents[2]
SMALL = (
    "model=linear",
    "accelerator=cpu",
    "accelerator.threads=1",
    "precisions=fp32",
    "seconds=0.1",
)


def test_a_benchmark_prints_tables_and_an_answer_and_writes_a_page_and_its_numbers(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main([*SMALL, "name=faster", "backends=torch,jax", "batch_sizes=64"]) == 0
    output = capsys.readouterr().out
    folder = tmp_path / "outputs" / "faster"
    for name in ("bench.html", "bench.json"):
        assert f"→  outputs/faster/{name}" in output
    found = json.loads((folder / "bench.json").read_text())
    assert (found["schema"], found["title"]) == (1, "linear on digits, adamw")
    both = found["measured"]
    assert [one["backend"] for one in both] == ["torch", "jax"]
    for one in both:
        assert (one["batch"], one["precision"], one["error"]) == (64, "fp32", "")
        assert one["beside"] == ["torch", "jax"]
        assert one["parameters"] == 650
        assert one["first_seconds"] > one["compile_seconds"] >= 0
        assert one["memory_mb"] > 50
        low, median, high = (one["samples_per_second"][place] for place in (1, 0, 2))
        assert 0 < low <= median <= high
        assert median == pytest.approx(64 / one["step_seconds"][0], rel=1e-9)
    assert both[1]["compile_seconds"] > 0 == both[0]["compile_seconds"]
    for phase in ("train", "infer"):
        assert len(both[0][phase]) == len(both[1][phase]) >= FEWEST
    assert len(found["sentences"]) == 2
    assert all(sentence in re.sub(r"\s+", " ", output) for sentence in found["sentences"])
    [unlike] = found["unlike"]
    assert unlike.startswith("not like with like: torch ran in eager mode, jax ran compiled; ")
    assert unlike in re.sub(r"\s+", " ", output)
    page = (folder / "bench.html").read_text()
    assert all(sentence.replace("<", "\\u003c") in page for sentence in found["sentences"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("model=own",), "error: model.jax=null: your model has no side for backend=jax. Set "),
        (
            ("model=own", "model.torch=my.Net", "model.jax=my:Net"),
            "model.torch=my.Net: it is no import path. Write it as module:attribute, such as my:Net.",
        ),
        (("model=own", "model.torch=nowhere_at_all:Net"), "there is no module nowhere_at_all in"),
        (
            (*SMALL[1:], "model=own", "model.torch=own_models:Own", "backends=torch"),
            "error: model.torch=own_models:Own: own_models (own_models.py) has no Own. ",
        ),
        (
            ("model=linear", "accelerator=gpu", "backends=torch"),
            "error: accelerator.kind=gpu: torch sees no GPU. Set accelerator=cpu",
        ),
        (("model=gpt", "backends=torch"), "error: model=gpt: must be "),
        (("model=nothing",), "error: model=nothing"),
        (("backend=jax",), "Set backends=torch,jax."),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_message(
    tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    shown = capsys.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert not (tmp_path / "outputs").exists()


def test_a_backend_whose_model_always_fails_ends_in_an_error_after_what_others_measured(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    torch = Measured(
        backend="torch", precision="fp32", batch=8, train=[1.0] * 6, beside=["torch"],
        conditions={"backend": "torch"} | dict.fromkeys(PHRASES, "the same"),
    )  # fmt: skip
    failed = Measured(backend="jax", precision="fp32", batch=8, error="model.jax=my:Net: it fails.")
    short = Measured(backend="torch_compiled", precision="fp32", batch=8, error="out of memory")
    made = Bench(
        title="own", batch=8, backends=("torch", "torch_compiled", "jax"), precisions=("fp32",),
        measured=[torch, short, failed, replace(failed, batch=16, error="again")],
    )  # fmt: skip
    for measured, code in ((made, 1), (replace(made, measured=[torch, short]), 0)):
        monkeypatch.setattr("pipeline.bench.__main__.measure", lambda *_, found=measured: found)
        assert main([*SMALL, "name=part"]) == code
    shown = capsys.readouterr()
    message = "error: jax was not measured: model.jax=my:Net: it fails. Mend it, or leave it out: "
    assert shown.err.startswith(f"{message}backends=torch,torch_compiled.\n")
    assert shown.err.count("error: ") == 1
    assert shown.out.count("→  outputs/part/bench.json") == 2


def test_a_sigterm_that_comes_while_an_object_ends_is_not_lost():
    class Ending:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)  # what a handler raises here, Python ignores

    def measure():
        Ending()
        time.sleep(2)

    with interruptible() as received, pytest.raises(KeyboardInterrupt):
        measure()
    assert received == [signal.SIGTERM]


def test_what_was_measured_before_a_sigterm_to_the_process_and_its_group_is_kept(tmp_path):
    command = [sys.executable, "-m", "pipeline.bench", *SMALL, "name=ended", "backends=torch"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [*command, "batch_sizes=8,16,32,64,128,256,512"], cwd=tmp_path, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    ) as started:  # fmt: skip
        assert started.stdout
        next(line for line in started.stdout if "samples/s" in line)
        started.terminate()  # as `timeout` does
        os.killpg(started.pid, signal.SIGTERM)
        output, errors = started.communicate(timeout=300)
    assert (started.returncode, errors) == (143, "")
    assert "interrupted: what was not measured by then is missing" in output
    found = json.loads((tmp_path / "outputs/ended/bench.json").read_text())
    assert found["interrupted"] is True
    assert found["measured"][0]["samples_per_second"]
    assert not any(one["error"] for one in found["measured"])
    assert re.search(r"fp32: at batch \d+ torch trains [\d,]+ samples per second\.", output)
