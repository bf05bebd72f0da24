"""Models of several inputs, and outputs of any structure, on both backends."""

import numpy as np
import pytest
from asserts import assert_rows_close

from pipeline.errors import UserError

TWO = (
    "model=own model.torch=own_outputs:TorchTwo model.jax=own_outputs:FlaxTwo dataset=arrays "
    "task.inputs=[a,b] train.steps=3 train.batch_size=8 train.precision=fp64 "
)
OWN = "task=own task.torch=own_outputs:squared task.jax=own_outputs:squared task.targets=[target] "


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
