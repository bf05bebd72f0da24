"""`--weights`: the first seed starts from the values of a file of either side."""

from dataclasses import replace

import flax.serialization
import jax
import numpy as np
import pytest
import safetensors.torch
import torch
from flax import linen

import flax_impl.verify
import flax_impl.verify.weights_file as of_flax
import lightning_impl.verify
import lightning_impl.verify.weights_file as of_torch
from pipeline.errors import UserError
from pipeline.verify.command import make_inputs
from pipeline.verify.judge import Request, judge
from pipeline.verify.sides.weights_file import WeightsFile

INPUTS = make_inputs(("x=float32[6,5]",))


class TorchNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = (
            torch.nn.Linear(5, 7), torch.nn.BatchNorm1d(7), torch.nn.Linear(7, 4)
        )  # fmt: skip

    def forward(self, x):
        return self.last(torch.relu(self.norm(self.first(x))))


class FlaxNet(linen.Module):
    limit: float = np.inf

    @linen.compact
    def __call__(self, x):
        x = linen.BatchNorm(use_running_average=True, name="b")(linen.Dense(7, name="a")(x))
        return linen.Dense(4, name="c")(jax.numpy.clip(x, 0, self.limit))


pytestmark = pytest.mark.usefixtures("verify_workers")


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = TorchNet().float()
    model.norm.running_mean.normal_()
    return model.eval()


def opened(left, right):
    inputs = INPUTS.draw(0)[0]
    return (
        lightning_impl.verify.open_subject(left, inputs, {}, {}),
        flax_impl.verify.open_subject(right, inputs, {}, {}),
    )


def write(path, model):
    state = model.state_dict()
    if path.suffix == ".safetensors":
        safetensors.torch.save_file(
            {f"model.{name}": tensor.contiguous() for name, tensor in state.items()}, path
        )
    elif path.suffix == ".pt":
        torch.save({"state_dict": state, "epoch": 3}, path)
    else:
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        tree = {
            "params": {
                "a": {"kernel": arrays["first.weight"].T, "bias": arrays["first.bias"]},
                "b": {"scale": arrays["norm.weight"], "bias": arrays["norm.bias"]},
                "c": {"kernel": arrays["last.weight"].T, "bias": arrays["last.bias"]},
            },
            "batch_stats": {
                "b": {"mean": arrays["norm.running_mean"], "var": arrays["norm.running_var"]}
            },
        }
        path.write_bytes(flax.serialization.to_bytes(tree))


READERS = {".pt": of_torch.read, ".msgpack": of_flax.read}


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".msgpack"])
def test_both_sides_get_the_values_of_a_file_of_either(tmp_path, model, suffix):
    path = tmp_path / f"weights{suffix}"
    write(path, model)
    expected = model.double()(torch.from_numpy(INPUTS.draw(0)[0]["x"])).detach().numpy()
    # In this process: a command reads with a process of the framework, as the next test does.
    arrays = (
        READERS[suffix](path) if suffix in READERS else WeightsFile.read(path, "--weights").arrays
    )
    sides = opened(TorchNet().eval(), FlaxNet())
    weights = WeightsFile(path, "--weights", arrays)
    verdict = judge(*sides, Request(INPUTS, (0,), 0, weights=weights))
    assert verdict.checked["weights"] == str(path)
    first = (
        f"the first seed has the values of {path} ({'right' if suffix == '.msgpack' else 'left'})"
    )
    assert any(note.startswith(first) for note in verdict.notes)
    for side in sides:
        output = side.run(INPUTS.draw(0)[0], False, {"output": np.ones((6, 4))}).outputs["output"]
        np.testing.assert_allclose(output, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".pt", ".msgpack"])
def test_a_process_of_the_framework_reads_what_numpy_cannot(tmp_path, model, suffix):
    path = tmp_path / f"weights{suffix}"
    write(path, model)
    found = WeightsFile.read(path, "--weights").arrays
    expected = READERS[suffix](path)
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in found)
    path.write_bytes(b"no weights")
    with pytest.raises(UserError, match="it cannot be read: ") as caught:
        WeightsFile.read(path, "--weights")
    assert str(path) in str(caught.value)


def file_of(model):
    arrays = {name: tensor.double().numpy().copy() for name, tensor in model.state_dict().items()}
    return WeightsFile("f.pt", "--weights", arrays)


def test_given_weights_show_what_drawn_ones_do_not(model):
    with torch.no_grad():
        model.norm.weight *= 100
    request = Request(INPUTS, (0,), 0)
    sides = opened(TorchNet(), FlaxNet(limit=50.0))
    assert judge(*sides, request).differences["forward"] < 1e-12
    assert judge(*sides, replace(request, weights=file_of(model))).differences["forward"] > 0.1


def test_a_second_seed_with_drawn_weights_shows_what_given_ones_hide(model):
    with torch.no_grad():
        model.last.weight[:] = 0  # a head that starts at zero hides all that comes before
    request = Request(INPUTS, (0,), 0, weights=file_of(model))
    sides = opened(TorchNet(), FlaxNet(limit=0.1))
    verdict = judge(*sides, request)
    assert verdict.differences["forward"] < 1e-12
    assert any("zero in it: norm.bias, last.weight" in note for note in verdict.notes)
    verdict = judge(*opened(TorchNet(), FlaxNet(limit=0.1)), replace(request, seeds=(0, 1)))
    assert verdict.verdict == "part"


def test_a_file_that_fits_neither_side_is_refused_with_what_is_missing(model):
    arrays = {name: tensor.double().numpy() for name, tensor in model.state_dict().items()}
    sides = opened(TorchNet(), FlaxNet())
    descriptions = [side.description for side in sides]
    del arrays["last.bias"]
    with pytest.raises(UserError) as caught:
        WeightsFile("f.pt", "--weights", arrays).fit(descriptions)
    told = str(caught.value)
    start = (
        "--weights=f.pt: it fits neither side: left: it has no last.bias; right: it has no a.bias"
    )
    assert told.startswith(start)
    assert "It has first.weight, first.bias, norm.weight" in told
    arrays["last.bias"] = np.zeros(9)
    with pytest.raises(UserError, match=r"left: last.bias is \[9\], last.bias is \[4\]"):
        WeightsFile("f.pt", "--weights", arrays).fit(descriptions)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no.pt", "there is no such file. Name a file .pt, .pth, "),
        ("file.onnx", "must be a file .pt, .pth, "),
    ],
)
def test_what_is_no_file_of_weights_is_refused(tmp_path, name, told):
    (tmp_path / "file.onnx").write_text("")
    with pytest.raises(UserError) as caught:
        WeightsFile.read(tmp_path / name, "--weights")
    assert told in str(caught.value)
