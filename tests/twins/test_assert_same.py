"""`assert_same`: one line in a test, with models of any kind."""

import sys

import pytest

from pipeline.errors import BadArgument
from pipeline.verify import assert_same

TORCH = """
import torch

class Net(torch.nn.Module):
    def __init__(self, width=6):
        super().__init__()
        self.first = torch.nn.Linear(4, width)
        self.last = torch.nn.Linear(width, 3)

    def forward(self, x):
        return self.last(torch.nn.functional.gelu(self.first(x)))
"""
FLAX = """
from flax import linen as nn

class Net(nn.Module):
    width: int = 6
    approximate: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.gelu(nn.Dense(self.width)(x), approximate=self.approximate)
        return nn.Dense(3)(x)

def tanh(width):
    return Net(width, approximate=True)
"""
LATE = """
def net(width):
    from flax_side import Net  # only here does this process meet JAX
    return Net(width)
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The modules of both models, importable from a folder that only this process knows."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "torch_side.py").write_text(TORCH)
    (folder / "flax_side.py").write_text(FLAX)
    (folder / "late_side.py").write_text(LATE)
    sys.path.insert(0, str(folder))
    import flax_side
    import torch_side

    yield torch_side, flax_side
    sys.path.remove(str(folder))
    for name in ("torch_side", "flax_side"):
        del sys.modules[name]


@pytest.mark.slow
@pytest.mark.parametrize("right", ["flax_side:Net", "late_side:net"])
def test_a_class_and_an_import_path_of_the_same_model_pass(models, right):
    torch_side, _ = models
    verdict = assert_same(
        torch_side.Net, right, inputs="x=float64[5,4]", options={"width": 7}, steps=1, seeds=1
    )  # fmt: skip
    assert verdict.verdict == "same"
    assert max(verdict.differences.values()) < 1e-12
    assert verdict.checked["steps"] == 1


def test_models_that_part_raise_with_the_verdict_and_its_table(models, warm_processes):
    torch_side, flax_side = models
    with pytest.raises(AssertionError) as caught:
        assert_same(
            torch_side.Net, flax_side.tanh, inputs=["x=float64[5,4]"], options={"width": 6}, steps=0, seeds=1
        )  # fmt: skip
    text = str(caught.value)
    assert text.startswith("they part: forward")
    assert "largest relative differences:\n  forward" in text


def test_an_instance_is_refused_with_the_way_out(models):
    torch_side, _ = models
    with pytest.raises(
        BadArgument, match="an instance cannot be handed to another process"
    ) as caught:
        assert_same(torch_side.Net(), "flax_side:Net", inputs="x=float32[5,4]")
    assert "its class and its options" in str(caught.value)
