"""`pipeline.convert`: from either backend to the other, to files, and back."""

import re
from pathlib import Path

import flax.linen as linen
import numpy as np
import pytest
import torch
from asserts import assert_rows_close, assert_states_identical
from made_runs import OTHER
from safetensors.numpy import load_file
from short_runs import EVERYTHING, FP64, MLP, SELDOM, lines
from torch import nn

from pipeline.atomic_files import read_json
from pipeline.convert import convert
from pipeline.data import sources
from pipeline.digest import digest
from pipeline.errors import UserError
from pipeline.run.transfer import export_run
from pipeline.storage.checkpoints import checkpoint_of_step, checkpoints_of
from pipeline.storage.run_folder import RunFolder

README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.mark.parametrize("backend", [pytest.param("torch", marks=pytest.mark.slow), "jax"])
def test_a_converted_run_resumes_like_the_original(train, tmp_path, backend):
    first, second = tmp_path / "first", tmp_path / "second"
    assert train("whole", backend, f"{SELDOM} {EVERYTHING}") == 0
    assert train("first", backend, f"{SELDOM} {EVERYTHING} train.stop_after=17") == 130
    convert(first, second)
    identity, result = read_json(second / "run.json"), RunFolder(second).result
    assert identity["config"]["backend"]["name"] == OTHER[backend]
    assert identity["wandb_id"] != read_json(first / "run.json")["wandb_id"]
    assert identity["data"]["samples"] == read_json(first / "run.json")["data"]["samples"]
    assert (result.status, result.steps) == ("interrupted", 17)
    assert result.converted_from == str(first)
    assert Path(result.best.checkpoint).parent.parent == second
    assert lines(second) == lines(first)
    resumed = f"{SELDOM} {EVERYTHING} resume={second}"
    assert train("second", OTHER[backend], resumed) == 0
    assert_rows_close(lines(second), lines(tmp_path / "whole"))


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_converting_there_and_back_changes_nothing(train, tmp_path, backend):
    assert train("first", backend, f"{SELDOM} {EVERYTHING} train.stop_after=17") == 130
    convert(tmp_path / "first", tmp_path / "there")
    convert(tmp_path / "there", tmp_path / "run.safetensors", whole=True)
    convert(tmp_path / "run.safetensors", tmp_path / "back")
    ours, theirs = (
        export_run(checkpoints_of(tmp_path / run), "SRC")[-1] for run in ("first", "back")
    )
    assert ours.recorder_state == theirs.recorder_state
    assert ours.state.step == 17
    assert ours.state.slots.keys() == {"exp_avg", "exp_avg_sq"}
    assert_states_identical(ours.state, theirs.state)


def test_both_backends_train_the_same_run_from_exported_weights(train, tmp_path):
    assert train("first", "jax", f"{SELDOM} {MLP} train.stop_after=7") == 130
    convert(tmp_path / "first", tmp_path / "w.safetensors")
    tuned = f"{SELDOM} {MLP} optimizer=sgd optimizer.lr=0.05"
    for backend in OTHER:
        folder = tmp_path / backend
        changes = ["optimizer=sgd", "optimizer.lr=0.05"]
        convert(tmp_path / "w.safetensors", folder, backend, overrides=changes)
        assert read_json(folder / "run.json")["config"]["optimizer"]["lr"] == 0.05
        assert train(backend, backend, f"{tuned} resume={folder}") == 0
    ours, theirs = (RunFolder(tmp_path / backend).result for backend in OTHER)
    assert_rows_close(lines(tmp_path / "jax"), lines(tmp_path / "torch"))
    assert lines(tmp_path / "torch")[0]["step"] == 4
    assert ours.init_digest == theirs.init_digest == digest(load_file(tmp_path / "w.safetensors"))
    assert ours.steps == theirs.steps == 30


def test_the_exported_weights_of_a_completed_run_are_the_tested_ones(train, tmp_path):
    first = tmp_path / "first"
    case = "model=linear optimizer=rmsprop optimizer.lr=1e-9 schedule=constant"
    assert train("first", "jax", f"{FP64} {case}") == 0
    convert(first, tmp_path / "best.safetensors")
    convert(checkpoint_of_step(first, 30).path, tmp_path / "last.safetensors")
    best, last = (load_file(tmp_path / f"{name}.safetensors") for name in ("best", "last"))
    assert digest(best) != digest(last)
    [portable] = export_run([checkpoint_of_step(first, 5)], "SRC")
    assert digest(best) == digest(portable.state.parameters)


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_weights_of_another_model_are_refused_with_parameter_names_and_leave_nothing(
    train, tmp_path, backend
):
    assert train("first", backend, f"{FP64} {MLP} train.stop_after=5") == 130
    convert(tmp_path / "first", tmp_path / "w.safetensors")
    fault = r"model=.*w\.safetensors.*layers\.1\.bias is \[10\] where the model has \[4\]"
    with pytest.raises(UserError, match=fault):
        convert(tmp_path / "w.safetensors", tmp_path / "new", overrides=["model.hidden=[16,4]"])
    assert not (tmp_path / "new").exists()


def test_weights_of_a_foreign_model_are_converted_with_the_config_of_that_model(train, tmp_path):
    from safetensors.torch import save_model

    theirs = nn.Sequential()
    theirs.add_module("fc", nn.Linear(64, 10))
    save_model(theirs, tmp_path / "theirs.safetensors")
    told = ["model=linear", "dataset=digits", "train.epochs=1"]
    convert(tmp_path / "theirs.safetensors", tmp_path / "new", "jax", overrides=told)
    [portable] = export_run(checkpoints_of(tmp_path / "new"), "SRC")
    assert digest(portable.state.parameters) == digest(load_file(tmp_path / "theirs.safetensors"))


# --- the README's lines, as they stand there ------------------------------------------------------


class PlainTorch(nn.Module):
    """LeNet in plain torch, with the parameter names of the file."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, padding=2)
        self.conv2 = nn.Conv2d(6, 16, 5, padding=2)
        self.fc = nn.ModuleList([nn.Linear(64, 120), nn.Linear(120, 84), nn.Linear(84, 10)])

    def forward(self, x):
        x = torch.max_pool2d(self.conv1(x).relu(), 2)
        x = torch.max_pool2d(self.conv2(x).relu(), 2).flatten(1)
        return self.fc[2](self.fc[1](self.fc[0](x).relu()).relu())


class PlainFlax(linen.Module):
    """The same in plain Flax."""

    @linen.compact
    def __call__(self, x):
        for name, channels in (("conv1", 6), ("conv2", 16)):
            x = linen.relu(linen.Conv(channels, (5, 5), padding=2, name=name)(x))
            x = linen.max_pool(x, (2, 2), (2, 2))
        x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
        for index, width in enumerate((120, 84)):
            x = linen.relu(linen.Dense(width, name=f"fc.{index}")(x))
        return linen.Dense(10, name="fc.2")(x)


@pytest.mark.parametrize("backend", ["torch", pytest.param("jax", marks=pytest.mark.slow)])
def test_the_readme_loads_the_weights_into_plain_torch_and_plain_flax(
    train, configure, tmp_path, monkeypatch, backend
):
    on_torch, on_flax = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[:2]
    for lines_shown in (on_torch, on_flax):
        after_imports = lines_shown.partition("\n\n")[2].splitlines()
        assert 1 <= len(after_imports) <= 5
    assert train("first", backend, "logger=none accelerator=cpu train.epochs=2") == 0
    convert(tmp_path / "first", tmp_path / "weights.safetensors")
    monkeypatch.chdir(tmp_path)
    model = PlainTorch()
    exec(on_torch, {"model": model})
    names = {}
    exec(on_flax, names)

    data = sources.load(configure("").dataset)
    mean, std = data.moments["image"]
    images = ((data.test.fields["image"] - mean) / std).astype(np.float32)
    with torch.no_grad():
        ours = model(torch.tensor(images).permute(0, 3, 1, 2)).numpy()
    theirs = PlainFlax().apply({"params": names["params"]}, images)
    np.testing.assert_allclose(theirs, ours, atol=1e-4)
    expected = RunFolder(tmp_path / "first").result.test["test/accuracy"]
    for logits in (ours, np.asarray(theirs)):
        assert np.mean(logits.argmax(1) == data.test.fields["label"]) == pytest.approx(
            expected, abs=1e-3
        )
