"""Lanes run a model as its users would, and charge what differs to what has changed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from torch import nn

from flax_impl.verify import open_subject
from flax_impl.verify.adapters.function import Function
from flax_impl.verify.subject import FunctionSubject
from lightning_impl.verify.subject import ModuleSubject
from pipeline.config.train import Precision
from pipeline.errors import UserError
from pipeline.parity import lockstep
from pipeline.verify.alignment.align import Aligner
from pipeline.verify.blame import blame
from pipeline.verify.checks.checker import Checker
from pipeline.verify.lanes import BARS, MARGINS, Lanes
from pipeline.verify.sides.side import Side
from pipeline.verify.sides.subject import Subject
from pipeline.verify.sides.worker import Opening
from pipeline.verify.verdict import LaneEdge

ROOT = Path(__file__).resolve().parents[2]
INPUTS = {"x": np.random.default_rng(0).standard_normal((6, 5))}
FACTORS = {
    "output": np.random.default_rng(1).standard_normal((6, 4)).astype(np.float32).astype(float)
}
PRECISIONS = ("fp64", "fp32", "bf16")


pytestmark = pytest.mark.usefixtures("float64", "torch_float64")


class Net(nn.Module):
    """A layer with a buffer, an integer one, and a constant that is neither."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(5, 4)
        self.register_buffer("scale", torch.linspace(0.5, 1.5, 4))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.constant = torch.full((4,), 0.1)

    def forward(self, x):
        return torch.tanh(self.inner(x)) * self.scale + self.constant


class Inverse(Net):
    """Torch has no inverse in bf16."""

    def forward(self, x):
        matrix = torch.linalg.inv(self.inner.weight @ self.inner.weight.T)
        return super().forward(x) @ matrix


class Refuses(Net):
    """Runs eagerly, and cannot be compiled."""

    def forward(self, x):
        if torch.compiler.is_compiling():
            torch._dynamo.graph_break()
            raise RuntimeError("this model cannot be compiled")
        return super().forward(x)


def net(arrays, x):
    """The same in JAX."""
    return jnp.tanh(x @ arrays["w"] + arrays["b"]) * arrays["scale"] + 0.1 * jnp.ones(4)


def function(model=net) -> FunctionSubject:
    """A function of JAX under check."""
    key = jax.random.key(0)
    arrays = {"w": jax.random.normal(key, (5, 4)), "b": jnp.ones(4), "scale": jnp.ones(4)}
    trained = frozenset({"w", "b"})
    return FunctionSubject(
        Function("test", arrays, trained, lambda arrays, inputs, _: (model(arrays, **inputs), {}))
    )


def opened(model) -> Subject:
    """A model of JAX under check."""
    return open_subject(model, INPUTS, {}, {})


def compare(left: Subject, right: Subject, compiled=False) -> dict[tuple[str, str], LaneEdge]:
    """Edges by what they change, and the precision."""
    alignment = Aligner(left, right, (INPUTS, INPUTS), 0).align()
    checker = Checker(left, right, alignment)
    checker.load(alignment.values)
    traces = left.trace(INPUTS, False), right.trace(INPUTS, False)
    checker.match_outputs(traces[0].outputs, traces[1].outputs)
    lanes = Lanes(checker, (INPUTS, INPUTS), 0, compiled)
    return {(edge.changes, edge.precision): edge for edge in lanes.compare(alignment.values)}


def test_bars_are_those_of_parity():
    assert BARS == lockstep.BARS
    assert MARGINS == lockstep.MARGINS


@pytest.mark.parametrize("make", [lambda: ModuleSubject(Net(), {}), function])
def test_a_lane_is_in_its_precision_and_leaves_the_model_as_it_is(make):
    subject = make()
    rounded = {n: a.astype(np.float32).astype(float) for n, a in subject.values().items()}
    subject.load(rounded)
    inputs = {"x": INPUTS["x"].astype(np.float32).astype(float)}
    exact = subject.run(inputs, False, FACTORS)
    for precision, dtype, low, high in (
        (Precision.fp64, np.float64, 0, 1e-14),
        (Precision.fp32, np.float32, 1e-9, 1e-6),
        (Precision.bf16, jnp.bfloat16, 1e-4, 3e-2),
    ):
        lane = subject.lane(inputs, False, FACTORS, precision, False)
        pairs = [(lane.gradients[name], exact.gradients[name]) for name in exact.gradients]
        for found, _ in pairs:
            np.testing.assert_array_equal(found, found.astype(dtype).astype(float))
        # With a constant, which is in float32 also where the parameters are not.
        output = lane.outputs["output"]
        is_wide = precision is Precision.fp64
        assert np.array_equal(output, output.astype(np.float32).astype(float)) != is_wide
        for found, true in (*pairs, (output, exact.outputs["output"])):
            assert low <= np.abs(found - true).max() / np.abs(true).max() <= high
        assert lane.loss == pytest.approx(exact.loss, abs=10 * high)
    after = subject.values()
    assert all(np.array_equal(after[name], array) for name, array in rounded.items())
    assert torch.get_default_dtype() is torch.float64
    again = subject.run(inputs, False, FACTORS)
    assert again.loss == exact.loss


def test_of_a_true_port_only_the_precision_differs():
    found = compare(ModuleSubject(Net(), {}), function())
    assert list(found) == [
        *(("the port", precision) for precision in PRECISIONS),
        *(("the precision of left", precision) for precision in ("fp32", "bf16")),
        *(("the precision of right", precision) for precision in ("fp32", "bf16")),
    ]
    assert all(edge.is_within for edge in found.values())
    for (_, precision), edge in found.items():
        low, high = {"fp64": (0, 1e-15), "fp32": (1e-9, 1e-6), "bf16": (1e-4, 1e-2)}[precision]
        assert low <= edge.outputs <= high
        assert low <= edge.gradients <= high
    port = found["the port", "bf16"]
    assert (port.one, port.other, port.reason) == ("torch eager", "JAX op by op", "")
    # Above the least bar: three times the noise of weights moved by one unit of bf16.
    assert 2e-2 < port.gradients_bar <= 0.2
    assert blame([*found.values()]).startswith("the port adds nothing (")
    assert "what differs is the precision: " in blame([*found.values()])


def test_a_wrong_port_is_charged_to_the_port_in_every_precision_that_shows_it():
    found = compare(ModuleSubject(Net(), {}), function(lambda a, x: net(a, x) * 1.001))
    assert [found["the port", p].is_within for p in PRECISIONS] == [False, False, True]
    assert found["the port", "fp64"].outputs == pytest.approx(1e-3, rel=0.1)
    assert found["the port", "fp64"].reason == "output output"
    assert found["the precision of right", "fp32"].is_within
    assert blame([*found.values()]) == "to blame: the port (1e-03 in fp64, above its noise)"


def test_float32_inside_a_model_in_fp64_is_judged_by_the_noise_of_float32_and_told():
    def narrow(arrays, x):
        with jax.named_scope("head"):
            return net(arrays, x).astype(jnp.float32).astype(x.dtype)

    edge = compare(ModuleSubject(Net(), {}), function(narrow))["the port", "fp64"]
    assert edge.is_within
    assert 1e-9 < edge.outputs < 1e-7
    assert edge.outputs_bar == 1e-5
    assert edge.reason == "right itself computes in float32 in head, in all lanes"


def test_a_layer_of_nnx_with_a_dtype_of_its_own_is_told_in_fp64_where_it_does_not_decide_too():
    class Own(nnx.Module):
        def __init__(self) -> None:
            self.inner = nnx.Linear(5, 4, dtype=jnp.float32, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self.inner(x)

    found = compare(opened(Own()), opened(Own()))
    assert all(edge.is_within for edge in found.values())
    assert found["the port", "fp64"].outputs == 0
    words = "itself computes in float32 in inner, in all lanes"
    assert found["the port", "fp64"].reason == f"left {words}; right {words}"
    assert {edge.reason for key, edge in found.items() if key != ("the port", "fp64")} == {""}


def test_float32_inside_a_torch_module_is_told_with_the_module():
    class Narrow(Net):
        def forward(self, x):
            return super().forward(x.float().to(x.dtype))

    lane = ModuleSubject(nn.Sequential(Narrow()), {}).lane(
        INPUTS, False, FACTORS, Precision.fp64, False
    )
    assert lane.narrow == "float32 in 0"


def test_a_precision_that_a_side_does_not_know_is_a_reason_and_no_crash():
    found = compare(ModuleSubject(Inverse(), {}), ModuleSubject(Inverse(), {}))
    assert found["the port", "fp32"].is_within
    for key in (("the port", "bf16"), ("the precision of left", "bf16")):
        assert found[key].is_within is None
        assert found[key].outputs is None
        assert "BFloat16" in found[key].reason
    parts = "the port (bf16), the precision of left (bf16), the precision of right (bf16)"
    assert f"not compared: {parts}: NotImplementedError" in blame([*found.values()])


def test_both_sides_of_jax_are_jitted_and_what_a_compiler_adds_is_its_own():
    found = compare(function(), function(), compiled=True)
    for side in ("left", "right"):
        for precision in PRECISIONS:
            edge = found[f"the compiler of {side}", precision]
            assert edge.is_within
            assert (edge.one, edge.other) == ("JAX op by op", "JAX jitted")
    assert all(found["the port", precision].outputs == 0 for precision in PRECISIONS)


@pytest.mark.slow
def test_a_lane_that_takes_too_long_is_ended_and_the_model_opened_again(tmp_path, monkeypatch):
    (tmp_path / "slow_model.py").write_text(
        "import time, torch\n"
        "class Slow(torch.nn.Linear):\n"
        "    def forward(self, x):\n"
        "        time.sleep(600 if x.dtype == torch.bfloat16 else 0)\n"
        "        return super().forward(x)\n"
    )
    options = {"in_features": 5, "out_features": 4}
    opening = Opening("left", "slow_model:Slow", options, {}, INPUTS, {}, 1, (str(tmp_path),))
    with Side("left", opening) as side:
        side.wait_until_open()
        side.load({"weight": np.full((4, 5), 0.5)})
        first = side.process.pid
        monkeypatch.setattr("pipeline.verify.sides.side.LANE_SECONDS", 1.0)
        with pytest.raises(UserError, match="it takes longer than 1 s"):
            side.lane(INPUTS, False, FACTORS, Precision.bf16, False)
        assert side.process.pid != first
        assert (side.values()["weight"] == 0.5).all()
        monkeypatch.setattr("pipeline.verify.sides.side.LANE_SECONDS", 300.0)
        assert side.lane(INPUTS, False, FACTORS, Precision.fp32, False).gradients


@pytest.mark.slow
def test_torch_is_compiled_or_says_why_it_cannot_be():
    found = compare(ModuleSubject(Net(), {}), ModuleSubject(Refuses(), {}), compiled=True)
    for precision in PRECISIONS:
        left, right = (found[f"the compiler of {side}", precision] for side in ("left", "right"))
        assert left.is_within
        assert left.other == "torch.compile"
        assert right.is_within is None
        assert "this model cannot be compiled" in right.reason
        assert found["the port", precision].is_within


@pytest.mark.slow
def test_the_command_without_a_cpp_compiler_says_so_in_the_cell_and_writes_the_page(tmp_path):
    command = [sys.executable, "-m", "pipeline.verify", *["torch.nn:TransformerEncoderLayer"] * 2]
    options = "{d_model: 8, nhead: 2, dim_feedforward: 16, dropout: 0, batch_first: true}"
    given = ["--options", options, "--inputs", "src=float32[2,3,8]", "--steps", "0", "--seeds", "1"]
    wanted = ["--lanes", "--page", str(tmp_path / "page"), "--json", str(tmp_path / "verdict.json")]
    cache = str(tmp_path / "cache")  # with nothing compiled in it
    environment = {**os.environ, "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": cache}
    ran = subprocess.run(
        [*command, *given, *wanted], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    assert "InvalidCxxCompiler" in ran.stdout
    verdict = json.loads((tmp_path / "verdict.json").read_text())
    found = {(edge["changes"], edge["precision"]): edge for edge in verdict["lanes"]}
    for precision in PRECISIONS:
        edge = found["the compiler of left", precision]
        assert edge["is_within"] is None
        assert "No working C++ compiler found" in edge["reason"]
        assert "\n" not in edge["reason"]
        assert found["the port", precision]["outputs"] == 0
    assert verdict["blame"].startswith("the port adds nothing (0e+00 in fp64)")
    assert [layer["left"] for layer in verdict["layers"]][-2:] == ["linear2", "norm2"]
    page = (tmp_path / "page" / "verdict.html").read_text()
    assert "No working C++ compiler found" in page
    assert (tmp_path / "page" / "verdict.png").stat().st_size > 5000
