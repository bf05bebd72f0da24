"""Bad input of `python -m pipeline.verify`: one message with the argument, the value and the way out."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.verify.__main__ import main
from pipeline.verify.command import make_inputs
from pipeline.verify.judge import Request, judge
from pipeline.verify.names.names_file import read_names
from pipeline.verify.sides.worker import Opening, open_model

ROOT = Path(__file__).parents[2]
X = "x=float32[5,4]"

TORCH = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=6, bias=True):
        super().__init__()
        self.first = nn.Linear(4, width, bias)
        self.last = nn.Linear(width, 3)

    def forward(self, x):
        return self.last(self.between(self.first(x)))

    def between(self, x):
        return torch.relu(x)


class Needy(Net):
    def __init__(self, width, heads):
        super().__init__(width)


class Wide(Net):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(6, 5)


class Pair(Net):
    def forward(self, x):
        return {"scores": self.last(self.first(x))[:1], "hidden": self.first(x)}


class Scores(Net):
    def forward(self, x):
        return {"scores": super().forward(x)}


class More(Net):
    def forward(self, x):
        return {"scores": super().forward(x), "hidden": self.first(x)}


class Log(Net):
    def between(self, x):
        return torch.log(x)  # of negative numbers


class LogInTraining(Net):
    def between(self, x):
        return torch.log(torch.relu(x) - 1) if self.training else torch.relu(x)


class Root(Net):  # the gradient of a root at zero is infinite, and zero times that is undefined
    def forward(self, x):
        return self.last(torch.relu(self.first(x)) * 0 + torch.sqrt(0 * self.first(x)))


class Noise(Net):
    def between(self, x):
        return x + torch.randn(len(x), 1)


class Inner(nn.Module):
    calls = 0

    def forward(self, x):
        Inner.calls += 1
        return x * Inner.calls


class Count(Net):
    def __init__(self):
        super().__init__()
        self.inner = Inner()

    def between(self, x):
        return self.inner(x)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(10, 4), nn.Linear(4, 3)

    def forward(self, ids):
        return self.head(self.table(ids))


class Huge(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Linear(4_000_000, 4_000_000)


def raises():
    raise ValueError("no preset 'tiny'")


def leaves():
    raise SystemExit("bye")


def draw(seed):
    return seed


def break_off(seed):
    raise OSError("no such data")


number = 3
"""
FLAX = """
import equinox
from flax import linen as nn
from flax import nnx


class Tokens(nn.Module):
    @nn.compact
    def __call__(self, ids):
        return nn.Dense(3)(nn.Embed(10, 4)(ids))


class Keyed(equinox.Module):
    dense: equinox.nn.Linear

    def __init__(self, width, key):
        self.dense = equinox.nn.Linear(4, width, key=key)

    def __call__(self, x):
        return self.dense(x)


class Streams(nnx.Module):
    def __init__(self, width=3, *, rngs):
        self.dense = nnx.Linear(4, width, rngs=rngs)

    def __call__(self, x):
        return self.dense(x)


class Images(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x.reshape(len(x), 64))
"""
FILES = {
    "nets.py": TORCH,
    "jets.py": FLAX,
    "imports.py": "import no_such_library\n",
    "syntax.py": "def f(:\n",
    "unlucky.py": "raise RuntimeError('set MY_KEY')\n",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The working folder of a user, with models."""
    folder = tmp_path_factory.mktemp("refused")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))
    for name in FILES:
        sys.modules.pop(name.removesuffix(".py"), None)


@pytest.fixture(autouse=True)
def working_folder(verify_settings, folder, monkeypatch):
    """The folder with the models; the import path as before after the test."""
    path = list(sys.path)
    monkeypatch.chdir(folder)
    yield
    sys.path[:] = path


def opened(path, inputs=X, key="left", call=None, **options):
    drawn = make_inputs((inputs,))
    opening = Opening(key, path, options, call or {}, drawn.draw(0)[0], drawn.layouts, 1)
    return open_model(opening)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("nets_:Net", "there is no module nets_ in this folder, on PYTHONPATH, or "
         "installed. Did you mean nets:Net?"),
        ("zzz:Net", "The modules of this folder: imports, jets, nets, syntax, unlucky."),
        ("nets:Nett", "nets (nets.py) has no Nett. Did you mean nets:Net?"),
        ("nets:zzz", "has no zzz. It has Net, Needy, Wide, "),
        ("nets:Net.zzz", "Net has no zzz."),
        ("./nets.py:Net", "it names a file. Name the module: nets:Net."),
        ("nets", "it is no import path. Write it as module:attribute"),
        ("imports:Net", "imports no_such_library, which is not installed: ModuleNotFoundError: No module "
         "named 'no_such_library' (imports.py, line 1). Install it, such as by: pip install no_such_library"),
        ("syntax:Net", "cannot be imported: SyntaxError: invalid syntax (syntax.py, line 1)"),
        ("unlucky:Net", "cannot be imported: RuntimeError: set MY_KEY (unlucky.py, line 1)"),
        ("nets:number", "must be a torch.nn.Module, a Flax linen or NNX module, an Equinox module, or "
         "(init, apply). It is of type int."),
        ("nets:raises", "called with nothing: ValueError: no preset 'tiny' (nets.py, line "),
        ("nets:leaves", "called with nothing: SystemExit: bye"),
        ("nets:Needy", "missing 2 required positional arguments: 'width' and 'heads'. It takes width, "
         "heads: set them with --options or --left-options."),
    ],
)  # fmt: skip
def test_a_side_that_cannot_be_made_is_refused_with_the_way_out(path, told):
    with pytest.raises(UserError) as caught:
        opened(path)
    assert str(caught.value).startswith(f"left={path}: ")
    assert told in str(caught.value)


def test_unknown_options_are_refused_with_those_that_are_known():
    with pytest.raises(UserError) as caught:
        opened("nets:Net", key="right", colour="red")
    told = "right=nets:Net: called with colour='red': TypeError: "
    assert str(caught.value).startswith(told)
    assert "It takes width=6, bias=True: set them with --options or --right-options." in str(
        caught.value
    )


@pytest.mark.parametrize("model", ["Keyed", "Streams"])
def test_a_class_that_asks_for_random_numbers_gets_them(model):
    side = opened(f"jets:{model}", width=7)
    assert sorted(array.shape for array in side.description.arrays) in (
        [(4, 7), (7,)],
        [(7,), (7, 4)],
    )
    with pytest.raises(UserError) as caught:
        opened(f"jets:{model}", depth=7)
    takes = "width, key" if model == "Keyed" else "width=3, rngs"
    assert f"It takes {takes}: set them with" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "inputs", "call", "told"),
    [
        ("nets:Net", "x=float32[5,7]", {}, "it refuses x=float64[5,7]: RuntimeError: addmm: mat1 and mat2 "
         "shapes cannot be multiplied (5x7 and 4x6) (nets.py, line 13)."),
        ("nets:Net", X, {"mask": 1}, "it refuses x=float64[5,4], mask=1: TypeError: Net.forward() got an "
         "unexpected keyword argument 'mask'. Its call takes x: name them in --inputs and --call."),
        ("nets:Tokens", "ids=int32[2,50] 0..100", {}, "Of the integers those of ids go up to 99; "
         "its tables have 10 rows. Set the range: --inputs 'ids=int32[2,50] 0..10'."),
        ("jets:Images", "x=float32[2,3,5,5] NCHW", {}, "it refuses x=float64[2,5,5,3]: TypeError: cannot "
         "reshape array of shape (2, 5, 5, 3) (size 150) into shape (2, 64)"),
        ("jets:Images", "x=float32[2,3,5,5] NCHW", {}, "Images were tried with channels first and last."),
    ],
)  # fmt: skip
def test_inputs_that_a_side_refuses_are_told_with_its_own_error(path, inputs, call, told):
    with pytest.raises(UserError) as caught:
        opened(path, inputs, call=call)
    assert str(caught.value).startswith(f"left={path}: it refuses ")
    assert told in str(caught.value)


def test_a_model_that_does_not_fit_the_memory_is_no_error_of_its_own():
    with pytest.raises(MemoryError):
        opened("nets:Huge")


@pytest.mark.parametrize(
    ("left", "right", "told"),
    [
        ("Net", "Wide", "outputs=left returns output [5, 3]; right returns output [5, 5]: the sizes"),
        ("Pair", "Net",
         "outputs=left returns scores [1, 3], hidden [5, 6]; right returns output [5, 3]: no array"),
        ("Net", "Log", "right=torch.nn.Module: its output output has NaN in evaluation mode; the first come "
         "from log in nets.py:"),
        ("LogInTraining", "Net",
         "left=torch.nn.Module: its output output has NaN in training mode; the first "),
        ("Root", "Root",
         "gradients=NaN: on both sides they are not finite: first.weight (left), first.weight"),
    ],
)  # fmt: skip
def test_results_that_cannot_be_compared_are_refused(left, right, told):
    sides = opened(f"nets:{left}"), opened(f"nets:{right}", key="right")
    with pytest.raises(UserError) as caught:
        judge(*sides, Request(make_inputs((X,)), (0,), 0))
    assert told in str(caught.value)


def test_an_output_of_one_side_alone_is_told_in_the_verdict():
    sides = opened("nets:More"), opened("nets:Scores", key="right")
    verdict = judge(*sides, Request(make_inputs((X,)), (0,), 0))
    assert verdict.sentence.startswith(
        "the same in what both return (left alone returns hidden): outputs"
    )


def test_integers_beyond_a_table_of_jax_are_told_with_its_size():
    ids = "ids=int32[2,5] 0..100"
    sides = opened("jets:Tokens", ids), opened("jets:Tokens", ids)
    with pytest.raises(UserError) as caught:
        judge(*sides, Request(make_inputs((ids,)), (0,), 0))
    assert "the table has 10 rows: --inputs 'ids=int32[2,5] 0..10'" in str(caught.value)
    assert "in Embed_0" in str(caught.value)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("Noise", r"right is not deterministic in evaluation mode: nets.py:\d+ draws random numbers"),
        ("Count",
         r"right is not deterministic in evaluation mode: results of inner change from call to call"),
    ],
)  # fmt: skip
def test_a_model_that_is_not_deterministic_has_no_verdict_but_the_layer(model, told):
    sides = opened("nets:Net"), opened(f"nets:{model}", key="right")
    verdict = judge(*sides, Request(make_inputs((X,)), (0,), 0))
    assert verdict.exit_code == 2
    assert re.match(told, verdict.sentence)


PAIR = ["nets:Net", "jets:Tokens"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([*PAIR, "--inputs", "x=float32[5,4"], "--inputs 'x=float32[5,4': must be NAME=TYPE[SHAPE]"),
        ([*PAIR, "--inputs", X, X], "--inputs x: x is described 2 times. Describe each input once."),
        ([*PAIR], "--inputs=: must be given. Describe what both models take"),
        ([*PAIR, "--inputs", "nets:drew"], "has no drew. Did you mean nets:draw?"),
        ([*PAIR, "--inputs", "nets:number"], "--inputs=nets:number: must be a function."),
        ([*PAIR, "--inputs", "nets:draw"], "--inputs nets:draw: the function returns int."),
        ([*PAIR, "--inputs", "nets:break_off"], "called with the seed 0, raises OSError: no such data"),
        ([*PAIR, "--inputs", X, "--options", "3"],
         "--options '3': it is no mapping of names to values. Write it"),
        ([*PAIR, "--inputs", X, "--options", "{1: 2}"],
         "--options '{1: 2}': it is no mapping of names to values."),
        ([*PAIR, "--inputs", X, "--left-call", "{a: ["], "--left-call '{a: [': it is no YAML: expected"),
        ([*PAIR, "--inputs", X, "--json", "nowhere/v.json"],
         "--json=nowhere/v.json: there is no folder nowhere. Make it first: mkdir -p nowhere"),
        ([*PAIR, "--inputs", X, "--json", "."], "--json=.: must be a file. Name a file in it: NAME."),
        ([*PAIR, "--inputs", X, "--write-names", "nowhere/n.yaml"],
         "--write-names=nowhere/n.yaml: there is no folder"),
        ([*PAIR, "--inputs", X, "--page", "nowhere/page"],
         "--page=nowhere/page: there is no folder nowhere."),
        ([*PAIR, "--inputs", X, "--names", "no.yaml"], "--names=no.yaml: it cannot be read: No such file"),
        ([*PAIR, "--inputs", X, "--steps", "-1"], "--steps=-1: must be 0 or more."),
        ([*PAIR, "--inputs", X, "--steps", "two"], "--steps: invalid int value: 'two'."),
        ([*PAIR, "--inputs", X, "--optimizer", "adan"], "--optimizer=adan: must be one of adadelta, "),
        ([*PAIR, "--inputs", X, "--stepz=3"], "--stepz=3: there is no such argument. Did you mean --steps?"),
        (["--inputs", X, *PAIR], "LEFT, RIGHT: they are missing. Write LEFT and RIGHT first"),
        (["a.npz", "nets:Net"], "a.npz is a recording, nets:Net is none"),
    ],
)  # fmt: skip
def test_a_bad_argument_is_refused_before_a_model_is_opened(capsys, arguments, told):
    assert main(arguments) == 1  # not argparse's 2, which is a verdict
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert told in error
    assert error.rstrip().endswith("--help shows every argument.")


@pytest.mark.slow
def test_a_refused_command_prints_one_message_from_three_processes(folder):
    command = [
        sys.executable,
        "-m",
        "pipeline.verify",
        "nets:Huge",
        "nets:Net",
        "--inputs",
        X,
    ]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    assert done.stdout == "opening nets:Huge and nets:Net\n"
    first, second = done.stderr.splitlines()
    assert first == (
        "error: left=nets:Huge: it does not fit the memory. Make it smaller: fewer layers, a smaller "
        "batch, shorter inputs."
    )
    assert second.startswith("HYDRA_FULL_ERROR=1")


def test_a_names_file_that_does_not_fit_is_refused_with_its_line(folder):
    (folder / "names.yaml").write_text("- left: first.wieght\n  right: first.weight\n")
    names = make_inputs((X,))
    request = Request(names, (0,), 0, names=read_names("names.yaml", "--names"))
    sides = opened("nets:Net"), opened("nets:Net", key="right")
    with pytest.raises(UserError) as caught:
        judge(*sides, request)
    assert str(caught.value) == (
        "--names=names.yaml, line 1: first.wieght: the left model has no such array. Closest names: "
        "first.weight, last.weight, first.bias."
    )
