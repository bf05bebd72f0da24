"""Experiments from Python: composed, run, loaded with their native models, compared."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import numpy as np
import psutil
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from made_runs import write_run

import tandem
from pipeline.run.experiment import Job
from pipeline.run.runner import run as run_experiment
from pipeline.shipped import CONF
from pipeline.storage.predictions import read_predictions

SMALL = "logger=none accelerator=cpu dataset.limit=96 train.batch_size=16 train.steps=12 train.log_every=3"
CASES = {  # those of JAX that take longest are slow
    "fp32": "model=cnn model.channels=[3,4] model.hidden=[8] train.ema=0.5",
    "fp64": "model=mlp model.hidden=[8] train.precision=fp64 train.randomness=shared",
    "statistics": "model=resnet18 model.width=4",
}


def cross_entropy(logits, targets):
    """Loss of each sample, in float64."""
    logits = logits.astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(targets)), targets]


@pytest.mark.parametrize(
    ("backend", "case"),
    [
        *(("torch", case) for case in CASES),
        ("jax", "fp64"),
        *(pytest.param("jax", case, marks=pytest.mark.slow) for case in ("fp32", "statistics")),
    ],
)
def test_a_loaded_model_predicts_what_its_run_has_stored(train, tmp_path, backend, case):
    assert train("run", backend, f"{SMALL} {CASES[case]}") == 0
    run = tandem.load(tmp_path / "run")
    stored = read_predictions(tmp_path / "run")
    outputs = run.predict(run.data.test.fields["image"])
    assert (outputs.argmax(axis=1) == stored.predicted).all()
    tolerance = 1e-12 if case == "fp64" else 1e-5
    np.testing.assert_allclose(cross_entropy(outputs, stored.target), stored.loss, rtol=tolerance)
    assert isinstance(run.model, torch.nn.Module if backend == "torch" else nn.Module)
    few = run.predict(run.data.test.fields["image"][:5])
    np.testing.assert_allclose(few, outputs[:5], rtol=tolerance, atol=tolerance)


def test_the_model_of_the_other_backend_has_the_same_weights(train, tmp_path):
    assert train("run", "torch", f"{SMALL} {CASES['fp32']}") == 0
    run = tandem.load(tmp_path / "run")
    kernel = run.model_on("jax").variables["params"]["conv1"]["kernel"]
    weight = run.model.conv1.weight.detach().numpy()
    np.testing.assert_array_equal(np.moveaxis(kernel, (0, 1), (-2, -1)).swapaxes(0, 1), weight)
    assert not run.model.training


@pytest.fixture(scope="module")
def pair(configure, tmp_path_factory):
    """Runs of both backends of one experiment."""
    folders = [tmp_path_factory.mktemp("pair") / backend for backend in ("torch", "jax")]
    for folder in folders:
        overrides = f"{SMALL} backend={folder.name} model=linear train.eval_every=6steps"
        assert run_experiment(configure(overrides), Job(folder, folder.name)) == 0
    return [tandem.load(folder) for folder in folders]


def test_rows_hold_all_that_was_logged_at_a_step(pair):
    rows = pair[0].rows
    assert [row["step"] for row in rows] == [3, 6, 9, 12]
    assert {"train/loss", "val/accuracy"} <= rows[1].keys()
    assert rows[-1]["test/loss"] == pair[0].result.test["test/loss"]


def test_metrics_are_a_frame_or_name_what_to_install(pair, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(
        tandem.UserError, match=r"pandas: it is not installed\. .*pip install pandas"
    ):
        _ = pair[0].metrics
    monkeypatch.undo()
    pandas = pytest.importorskip("pandas")
    assert isinstance(pair[0].metrics, pandas.DataFrame)
    assert list(pair[0].metrics.index) == [3, 6, 9, 12]
    assert list(tandem.compare(pair).frame["status"]) == ["completed", "completed"]


def test_a_comparison_shows_a_table_and_curves_and_writes_a_page(pair, tmp_path):
    made = tandem.compare([pair[0], str(pair[1].folder)])
    html = made._repr_html_()
    assert html.count("<tr>") == 3
    assert html.count('src="data:image/png;base64,') == 2
    assert "train/loss" in html
    assert "the same weights at step 0 and the same batches" in made.findings["the same?"][0]
    assert "| backend=jax" in str(made)
    assert made.write(tmp_path / "page") == tmp_path / "page" / "report.html"
    assert "completed  test/loss " in str(pair[0])
    assert pair[1]._repr_html_().count("<tr>") == 2


def test_names_in_html_are_escaped(tmp_path):
    write_run(tmp_path / "one", name="<b>one")
    write_run(tmp_path / "two", name="two")
    html = tandem.compare([tmp_path])._repr_html_()
    assert "&lt;b&gt;one" in html
    assert "<b>" not in html


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tandem.compose("optimizr=sgd"), "optimizr=sgd: .*the group optimizer"),
        (lambda: tandem.compose("-m"), "-m: an experiment takes no flag"),
        (lambda: tandem.compose("seed=0,1"), "seed=0,1: must be one value"),
        (
            lambda: tandem.compose("model=vit", "model.width=3"),
            "model.heads=4: must be a divisor of model.width=3",
        ),
        (
            lambda: tandem.load("outputs/none"),
            r'^tandem.load\("outputs/none"\): must be an existing run',
        ),
        (
            lambda: tandem.compare(["none"]),
            r"^tandem\.compare\(\['none'\]\): must be a run or a sweep\. Runs are below outputs/",
        ),
    ],
)
def test_bad_input_is_a_user_error(call, message):
    with pytest.raises(tandem.UserError, match=message):
        call()


def test_a_program_of_hydra_s_own_can_compose_too():
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        assert tandem.compose("model=mlp").config.model.name == "mlp"
        assert compose("config", ["seed=3"]).seed == 3


def test_arrays_of_another_shape_are_refused(pair):
    with pytest.raises(tandem.UserError, match=r"image=\[4, 3, 8, 1\]: must be \[n, 8, 8, 1\]"):
        pair[0].predict(np.zeros((4, 3, 8, 1), np.uint8))
    with pytest.raises(
        tandem.UserError,
        match=r"^run.predict\(2 arrays\): must be called with one array for each of image",
    ):
        pair[0].predict(np.zeros(1), np.zeros(1))
    made = r"^run.generate\(\): must be called of a run of task=language, seq2seq, denoising, not class"
    with pytest.raises(tandem.UserError, match=made):
        pair[0].generate(3)


def test_a_run_from_python_is_that_of_the_command(tmp_path, monkeypatch, capsys, warm_processes):
    monkeypatch.chdir(tmp_path)
    experiment = tandem.compose(*SMALL.split(), "model=linear", "backend=jax", "name=first")
    assert str(experiment).startswith("tandem run logger=none")
    assert experiment.config.model.name == "linear"
    run = tandem.run(experiment)
    assert (run.folder, run.status) == (Path("outputs/first"), "completed")
    assert "completed in " in capsys.readouterr().out
    with pytest.raises(tandem.RunFailed, match="outputs/first holds a run already") as raised:
        tandem.run(experiment, quiet=True)
    assert "HYDRA_FULL_ERROR" not in str(raised.value)
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_a_stopped_run_is_returned_and_resumed(tmp_path, monkeypatch, warm_processes):
    monkeypatch.chdir(tmp_path)
    run = tandem.run(*SMALL.split(), "model=linear", "name=half", "train.stop_after=6", quiet=True)
    assert (run.status, run.rows[-1]["step"]) == ("interrupted", 6)
    whole = tandem.run("resume=outputs/half", quiet=True)
    assert (whole.folder.name, whole.status, whole.rows[-1]["step"]) == ("half", "completed", 12)


SCRIPT = """
import tandem
tandem.run(*{overrides!r}, "model=linear", "name=long", "train.steps=1000000")
"""


@pytest.fixture
def script(tmp_path):
    """A script in the middle of a long run, and the process of that run."""
    code = SCRIPT.format(overrides=SMALL.split())
    folder = str(Path(tandem.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": folder, "TANDEM_PROGRESS": "plain"}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert any("step 0/" in line for line in process.stdout)
        [child] = psutil.Process(process.pid).children()
        yield process, child
        process.kill()


@pytest.mark.slow
def test_an_interrupted_script_waits_until_its_run_has_saved(script, tmp_path):
    process, child = script
    process.send_signal(signal.SIGINT)
    assert "resume with: tandem run resume=" in process.communicate(timeout=300)[0]
    assert process.returncode == -signal.SIGINT
    assert not child.is_running()
    assert tandem.load(tmp_path / "outputs" / "long").status == "interrupted"


@pytest.mark.slow
def test_a_run_ends_with_the_script_that_is_killed(script):
    process, child = script
    process.kill()
    child.wait(timeout=300)
