"""Models of several inputs, and outputs of any structure, on both backends."""

import re

import numpy as np
import pytest
from asserts import assert_rows_close

from pipeline.config.models import MLPConfig
from pipeline.errors import UserError
from pipeline.training.model_calls import calling
from pipeline.training.model_checks import OwnFromData

TWO = (
    "model=own model.torch=own_outputs:TorchTwo model.jax=own_outputs:FlaxTwo dataset=arrays "
    "task.inputs=[a,b] train.steps=3 train.batch_size=8 train.precision=fp64 "
)
OWN = "task=own task.torch=own_outputs:squared task.jax=own_outputs:squared task.targets=[target] "

MISFITS = """
import jax, torch
from flax import linen, nnx

class TorchMisfit(torch.nn.Module):
    def __init__(self, input_shape, outputs):
        super().__init__()
        self.head = torch.nn.Linear(7, outputs)

    def forward(self, a, b):
        return self.head(a)


class LinenMisfit(linen.Module):
    input_shape: tuple
    outputs: int

    @linen.compact
    def __call__(self, a, b):
        return linen.Dense(self.outputs)(a) @ b


class NNXMisfit(nnx.Module):
    def __init__(self, input_shape, outputs, rngs):
        self.head = nnx.Linear(7, outputs, rngs=rngs)

    def __call__(self, a, b):
        return self.head(a)
"""
KEYLESS = """
import equinox as eqx

class EquinoxKeyless(eqx.Module):
    drop: eqx.nn.Dropout
    head: eqx.nn.Linear

    def __init__(self, input_shape, outputs, key):
        self.drop, self.head = eqx.nn.Dropout(0.5), eqx.nn.Linear(3, outputs, key=key)

    def __call__(self, a, b):
        return self.head(self.drop(a))
"""


@pytest.fixture
def data(tmp_path):
    """A file with two inputs of other widths, and what to make of them."""
    random = np.random.default_rng(0)
    a, b = random.normal(size=(60, 3)), random.normal(size=(60, 5))
    target = a.sum(axis=1, keepdims=True) + b[:, :2]
    np.savez(tmp_path / "two.npz", a=a, b=b, target=target)
    return f"dataset.path={tmp_path}/two.npz "


def test_a_models_own_loss_takes_a_dataclass_alike_on_both_backends(run, data):
    ours, theirs = run(TWO + OWN + data)
    assert_rows_close(theirs.rows, ours.rows, 1e-10)
    assert ours.result.test["test/loss"] > 0.1


@pytest.mark.parametrize("kind", ["logits", "tuple"])
def test_a_built_in_loss_takes_the_logits_or_the_entry_that_is_named(run, data, kind):
    more = "model.output=1" if kind == "tuple" else ""
    ours, theirs = run(f"{TWO} task=regression {data} model.options={{kind:{kind}}} {more}")
    assert_rows_close(theirs.rows, ours.rows, 1e-10)


def test_outputs_without_logits_are_refused_with_their_entries(train, data):
    options = f"{TWO} task=regression {data} logger=none accelerator=cpu"
    assert train("one", "torch", f"{options} model.options={{kind:one}}") == 0
    for backend in ("torch", "jax"):
        with pytest.raises(UserError) as refused:
            train(backend, backend, f"{options} model.options={{kind:tuple}}")
        assert str(refused.value) == (
            "model=own: for this batch it returns a tuple with 0 [8, 2], 1 [8, 2], and the loss needs an "
            "array [8, 2]. Set model.output to the entry that the loss takes, such as 0."
        )
    with pytest.raises(UserError, match=r"no such entry; it has 0 \[8, 2\], 1 \[8, 2\]"):
        train("none", "torch", f"{options} model.options={{kind:tuple}} model.output=logits")


@pytest.mark.parametrize(
    ("path", "problem", "shapes"),
    [
        (
            "users_misfits:TorchMisfit",
            r"RuntimeError: .*mat1 and mat2 .* \(users_misfits.py, line 11\)",
            r"a \[8, 3\], b \[8, 5\]",
        ),
        (
            "users_misfits:LinenMisfit",
            r"TypeError: dot_general .* \(users_misfits.py, line 20\)",
            r"a \[1, 3\], b \[1, 5\]",
        ),
        (
            "users_misfits:NNXMisfit",
            r"TypeError: dot_general .* \(users_misfits.py, line 28\)",
            r"a \[8, 3\], b \[8, 5\]",
        ),
        (
            "users_keyless:EquinoxKeyless",
            r"RuntimeError: Dropout requires a key .* \(users_keyless.py, line 12\)",
            r"a \[3\], b \[5\] of one sample",
        ),
    ],
)
def test_an_error_in_a_users_model_names_its_line_and_the_shapes_of_the_call(
    train, data, tmp_path, monkeypatch, path, problem, shapes
):
    if "Equinox" in path:
        pytest.importorskip("equinox")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "users_misfits.py").write_text(MISFITS)
    (tmp_path / "users_keyless.py").write_text(KEYLESS)
    backend = "torch" if "Torch" in path else "jax"
    keys = (
        f"dataset=arrays {data} task=regression task.inputs=[a,b] model=own model.{backend}={path}"
    )
    with pytest.raises(UserError) as refused:
        train(
            "run", backend, f"{keys} train.batch_size=8 train.steps=3 accelerator=cpu logger=none"
        )
    made = r"input_shape=\(3,\) and outputs=2"
    hint = f"It is called with {shapes}, and was made with {made}."
    assert re.fullmatch(rf"model.{backend}={path}: it fails: {problem}. {hint}", str(refused.value))


def test_an_exception_that_ends_a_call_on_purpose_and_one_of_a_built_in_model_pass_as_they_are():
    own = OwnFromData(torch="users:Net", inputs={"x": (4,)}, outputs=2)
    stop = type("_Stop", (Exception,), {})
    for model, error in ((own, stop()), (own, MemoryError()), (MLPConfig(), KeyError("x"))):
        with pytest.raises(type(error)), calling(model, "model.torch", [np.zeros((8, 4))]):
            raise error
    problem = r"model.torch=users:Net: it fails: KeyError: 'x' .*, line \d+\). It is called with x \[8, 4\]"
    with pytest.raises(UserError, match=problem), calling(own, "model.torch", [np.zeros((8, 4))]):
        raise KeyError("x")
