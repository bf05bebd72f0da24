"""`python -m pipeline.parity` as a user calls it: it finds one mistake after the other."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import warm_start

from pipeline.errors import Diverged
from pipeline.parity.__main__ import main

ROOT = Path(__file__).parents[2]
MODELS = """
import flax.linen
import torch


class TorchNet(torch.nn.Module):
    def __init__(self, input_shape, outputs, width=16):
        super().__init__()
        self.conv = torch.nn.Conv2d(input_shape[2], width, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(width)
        self.head = torch.nn.Linear(width, outputs)

    def forward(self, x):
        x = torch.nn.functional.gelu(self.norm(self.conv(x)))
        return self.head(x.mean((2, 3)))


class FlaxNet(flax.linen.Module):
    input_shape: tuple
    outputs: int
    width: int = 16

    @flax.linen.compact
    def __call__(self, x, train=False):
        x = flax.linen.Conv(self.width, (3, 3), name="conv")(x)
        x = flax.linen.BatchNorm(use_running_average=not train, name="norm")(x)
        x = flax.linen.gelu(x)
        return flax.linen.Dense(self.outputs, name="head")(x.mean((1, 2)))
"""
COMMAND = (
    "-m pipeline.parity name=port model=own model.torch=my_models:TorchNet model.jax=my_models:FlaxNet "
    "train.steps=10"
)
TOLD = [
    "they part at step 1: forward: between norm and head",
    "they part at step 1: buffers: norm.running_mean",
    "they part at step 1: buffers: norm.running_var",
    "the same: over 10 steps nothing differs",
]

APPROXIMATE = "flax.linen.gelu(x)"
NORM = 'flax.linen.BatchNorm(use_running_average=not train, name="norm")(x)'
MENDED = [
    (APPROXIMATE, "flax.linen.gelu(x, approximate=False)"),
    (NORM, NORM.replace("not train,", "not train, momentum=0.9,")),
    (
        NORM.replace("not train,", "not train, momentum=0.9,"),
        '__import__("flax_impl.norms").norms.BatchNorm(name="norm")(x, train)',
    ),
]


def parity(folder: Path, *arguments: str, cold: bool = False) -> subprocess.CompletedProcess:
    return warm_start.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=os.environ
        | {"PYTHONPATH": f"{ROOT}:{folder}", "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
        cold=cold,
    )


@pytest.mark.slow
def test_each_mistake_of_a_port_is_reported_until_both_backends_agree(tmp_path):
    source = MODELS
    for told, (old, new) in zip(TOLD, [*MENDED, (None, None)], strict=True):
        (tmp_path / "my_models.py").write_text(source)
        done = parity(tmp_path, *shlex.split(COMMAND))
        assert told in done.stdout, done.stdout + done.stderr
        assert done.returncode == ("they part" in told)
        content = json.loads((tmp_path / "outputs/port/parity.json").read_text())
        assert content["sentence"].startswith(told)
        assert (tmp_path / "outputs/port/parity.png").stat().st_size > 10_000
        if old:
            assert old in source
            source = source.replace(old, new)
    assert content["verdict"] == "same"
    assert content["same_initial_bytes"] is True
    assert content["same_batches"] is True
    assert len(content["losses"]["torch"]) == 10
    assert max(content["by_step"]["loss"]["worst"]) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_in_low_precision_the_tolerance_is_the_noise_of_each_backend(tmp_path, precision):
    small = "model=mlp model.hidden=[16] dataset.limit=64 train.batch_size=16 train.steps=8"
    done = parity(
        tmp_path, "-m", "pipeline.parity", f"train.precision={precision}", "name=it", *small.split()
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the same within their own noise: over 8 steps" in done.stdout
    assert "own noise" in done.stdout
    content = json.loads((tmp_path / "outputs/it/parity.json").read_text())
    assert max(content["by_step"]["loss"]["noise"]) > 0
    assert content["parts"]["loss"]["loss"]["noise"] == max(content["by_step"]["loss"]["noise"])


@pytest.mark.slow
def test_two_models_with_other_names_are_aligned_and_the_names_serve_other_commands(tmp_path):
    (tmp_path / "own_models.py").write_text((ROOT / "tests/own_models.py").read_text())
    own = "model=own model.torch=own_models:TorchFused model.jax=own_models:FlaxSeparate"
    small = "dataset.limit=64 train.batch_size=16 train.steps=3 accelerator=cpu"
    done = parity(tmp_path, "-m", "pipeline.parity", "name=it", *own.split(), *small.split())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the names of the two models differ: they are aligned" in done.stdout
    assert re.search(r"qkv.weight\[4:8\] +b.kernel +transpose\(1, 0\)", done.stdout)
    content = json.loads((tmp_path / "outputs/it/parity.json").read_text())
    assert content["verdict"] == "same"
    assert content["config"]["model"]["names"] == "outputs/it/names.yaml"
    assert content["parts"]["initial weights"].keys() >= {"qkv.weight", "fc.weight"}
    names = "model.names=outputs/it/names.yaml"
    again = parity(tmp_path, "-m", "pipeline.parity", *own.split(), *small.split(), names)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "aligned" not in again.stdout


COMPILED = """
import torch


class Net(torch.nn.Module):
    def __init__(self, input_shape, outputs, factor=1.0, rate=0.0):
        super().__init__()
        self.first = torch.nn.Linear(torch.Size(input_shape).numel(), 8)
        self.head = torch.nn.Linear(8, outputs)
        self.factor, self.drop = factor, torch.nn.Dropout(rate)

    def forward(self, x):
        x = self.first(x.flatten(1)).relu()
        if torch.compiler.is_compiling():
            x = x * self.factor
        return self.head(self.drop(x))
"""
PARTED = "they part at step 1: forward: between first and drop, by 1.0e-03"
DRAWN = (
    "no verdict: torch_compiled draws random numbers (bernoulli, compiled) in drop, which cannot"
)


@pytest.mark.slow
@pytest.mark.parametrize(("options", "told"), [("factor:1.001", PARTED), ("rate:0.5", DRAWN)])
def test_compiled_torch_is_compared_as_it_is_compiled(tmp_path, options, told):
    (tmp_path / "to_compile.py").write_text(COMPILED)
    own = f"name=it model=own model.torch=to_compile:Net model.options={{{options}}} model.init=own"
    small = "dataset.limit=64 train.batch_size=16 train.steps=3 accelerator=cpu"
    command = f"-m pipeline.parity backend=torch,torch_compiled {own} {small}"
    done = parity(tmp_path, *command.split())
    assert "fp64: torch and torch_compiled in lockstep, 3 steps, two processes" in done.stdout
    assert told in done.stdout, done.stdout + done.stderr
    assert done.returncode == (2 if told == DRAWN else 1)
    content = json.loads((tmp_path / "outputs/it/parity.json").read_text())
    assert list(content["losses"]) == content["backends"] == ["torch", "torch_compiled"]
    assert content["parts"]["forward"].keys() >= {"first output", "head input"}


PAIR = """
import sys
import flax.linen as nn
import torch


class Torch(torch.nn.Module):
    def __init__(self, input_shape, outputs):
        super().__init__()
        self.dense = torch.nn.Linear(64, outputs)

    def forward(self, x, **_):
        if {torch}:
            raise RuntimeError("no luck")
        return self.dense(x.flatten(1))


class Flax(nn.Module):
    input_shape: tuple
    outputs: int

    @nn.compact
    def __call__(self, x, train=False):
        if {flax}:
            sys.exit("my exit")
        return nn.Dense(self.outputs, name="dense")(x.reshape(len(x), -1))
"""

SMALL = ["train.batch_size=16", "train.steps=2", "accelerator=cpu"]

MISTAKES = {
    "model=nosuch": "model=nosuch",
    "train.batch_size=0": "train.batch_size=0: must be a whole number, at least 1",
    "logger=wandb": "logger=…: has no effect on parity. Leave it out",
    "hydra.run.dir=x": "hydra.run.dir=…: has no effect on parity. Name the folder with name=NAME",
    "mode=test": "mode=…: has no effect on parity. Leave it out: parity trains from the first step.",
    "accelerator.devices=2": "accelerator.devices=2: must be 1",
    "backend=jax": "backend=jax: must be two options, such as torch,jax or torch,torch_compiled.",
    "backend=torch,torch": "backend=torch,torch: must be two options",
    "backend=torch,tpu": "backend=tpu: must be one of jax, torch, torch_compiled",
    "backend=torch_compiled,jax backend.compile=true": "jax compiles every step by itself",
    "backend.name=jax": "backend.name=…: has no effect on parity. Choose two options: backend=torch,jax",
    "model=cnn dataset=line": "Set model=linear",
    "model=own": "model.torch=null: your model has no side for backend=torch",
    "model=own model.torch=json:nothing": "model.torch=json:nothing: json",
    "model=own model.torch=raising:Torch model.jax=raising:Flax": (
        "model.torch=raising:Torch: it fails: RuntimeError: no luck (raising.py, line 14). It is called with"
    ),
    "model=own model.torch=empty:Torch model.jax=empty:Flax": (
        "model.jax=empty:Flax: it has no parameters to train"
    ),
    "model=own model.torch=leaving:Torch model.jax=leaving:Flax": (
        "model.jax=leaving:Flax: SystemExit: my exit in {}/leaving.py, line 25. See"
    ),
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_a_mistake_is_reported_in_one_message(tmp_path, monkeypatch, capfd, arguments):
    (tmp_path / "raising.py").write_text(PAIR.format(torch="True", flax="False"))
    (tmp_path / "leaving.py").write_text(PAIR.format(torch="False", flax="True"))
    dense = 'nn.Dense(self.outputs, name="dense")(x.reshape(len(x), -1))'
    nothing = PAIR.format(torch="False", flax="False")
    nothing = nothing.replace(dense, "x.reshape(len(x), -1)[:, : self.outputs]")
    (tmp_path / "empty.py").write_text(nothing)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    arguments = arguments.split()
    keys = [argument.partition("=")[0] for argument in arguments]
    usual = [argument for argument in SMALL if argument.partition("=")[0] not in keys]
    assert main([*usual, *arguments]) == 1
    error = capfd.readouterr().err
    assert error.startswith("error: ")
    assert MISTAKES[" ".join(arguments)].format(tmp_path) in error
    assert "Traceback" not in error
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
def test_a_process_that_is_killed_ends_the_command_in_one_message(tmp_path):
    killed = "multiprocessing.parent_process() and os.kill(os.getpid(), 9)"
    pair = f"import multiprocessing, os\n{PAIR.format(torch=killed, flax='False')}"
    (tmp_path / "killed.py").write_text(pair)
    own = ["model=own", "model.torch=killed:Torch", "model.jax=killed:Flax"]
    done = parity(tmp_path, "-m", "pipeline.parity", "train.precision=fp32", *own, *SMALL)
    assert done.returncode == 1
    told = "error: the process of backend=torch has ended without a word: memory may have run out\n"
    assert done.stderr.startswith(told)


def test_a_nan_loss_is_reported_in_one_message(monkeypatch, capsys):
    def diverge(*_):
        raise Diverged("train/loss is nan at step 3")

    monkeypatch.setattr("pipeline.parity.__main__.run", diverge)
    assert main(SMALL) == 1
    assert capsys.readouterr().err.startswith("error: train/loss is nan at step 3\n")


def test_options_of_the_users_own_are_found_in_their_folder(tmp_path, monkeypatch, capfd):
    (tmp_path / "mine/experiment").mkdir(parents=True)
    text = "# @package _global_\ntrain:\n  batch_size: 0\n"
    (tmp_path / "mine/experiment/none.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert main(["--config-dir", "mine", "experiment=none"]) == 1
    assert "train.batch_size=0: must be a whole number" in capfd.readouterr().err
    assert main(["experiment=none", "--config-dir", "nowhere"]) == 1
    assert "--config-dir=nowhere: must be an existing folder" in capfd.readouterr().err


def test_help_explains_the_exit_codes(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert (
        "exit code 0 if they are the same, 1 if they part, 2 if that cannot be told"
        in capsys.readouterr().out
    )
