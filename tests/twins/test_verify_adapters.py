"""Models of every kind are opened, aligned, and found to be the same."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import NamedTuple

import equinox as eqx
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from jax.example_libraries import stax
from verify_models import DROPOUT, LATE_DROPOUT, LENGTH, MOMENTUM, SIZE, VOCABULARY

import flax_impl.verify
import lightning_impl.verify
from pipeline.config.optimizers import AdamWConfig
from pipeline.errors import UserError
from pipeline.verify.alignment.align import Aligner
from pipeline.verify.sides.subject import Inputs, Pass, Subject
from pipeline.verify.trace.graph import Draw

BATCH = 3
BAR = 1e-10
IMAGES = {"x": (BATCH, 3, SIZE, SIZE)}
pytestmark = pytest.mark.usefixtures("verify_workers")


def inputs_of(model: str, seed: int = 0) -> Inputs:
    random = np.random.default_rng(seed)
    if model != "gpt":
        return {name: random.standard_normal(shape) for name, shape in IMAGES.items()}
    lengths = np.array([[LENGTH], [4], [5]])
    tokens = random.integers(0, VOCABULARY, (BATCH, LENGTH))
    return {"tokens": tokens, "mask": np.arange(LENGTH) < lengths}


@cache
def opened(kind: str, model: str) -> Subject:
    """One of `verify_models`, with a single block."""
    make = getattr(import_module(f"verify_models.in_{kind}"), model)
    made = make() if model == "cnn" else make(depth=1)
    backend = lightning_impl.verify if kind == "torch" else flax_impl.verify
    layouts = {} if model == "gpt" else {"x": "NCHW"}
    return backend.open_subject(made, inputs_of(model), {}, layouts)


def in_jax(made: object, inputs: Inputs, **layouts: str) -> Subject:
    return flax_impl.verify.open_subject(made, inputs, {}, layouts)


def in_torch(made: object, inputs: Inputs, **layouts: str) -> Subject:
    return lightning_impl.verify.open_subject(made, inputs, {}, layouts)


@dataclass
class Comparison:
    """Two models with the same weights; `to_left` returns the right one's arrays as the left one's."""

    differences: dict[str, float]
    passes: tuple[Pass, Pass]  # in training
    draws: tuple[list[Draw], list[Draw]]
    to_left: Callable[[dict], dict]


def largest(left: dict, right: dict, names: object = None) -> float:
    return max(np.abs(left[name] - right[name]).max() for name in (names or left))


def compared(
    left: Subject, right: Subject, batches: list[Inputs], steps: bool = True
) -> Comparison:
    """Align two models, and run and train them from the same weights."""
    inputs = batches[0]
    alignment = Aligner(left, right, (inputs, inputs), 0).align()
    assert (alignment.matching.left, alignment.matching.right) == ([], [])
    mapping, own = alignment.mapping, left.values()
    left.load(alignment.values)
    right.load(mapping.to_right(alignment.values, right.values()))
    evaluated = left.trace(inputs, False).outputs, right.trace(inputs, False).outputs
    traces = left.trace(inputs, True), right.trace(inputs, True)
    random = np.random.default_rng(1)
    weights = {path: random.standard_normal(array.shape) for path, array in evaluated[0].items()}
    passes = left.run(inputs, True, weights), right.run(inputs, True, weights)
    differences = {
        "evaluation": largest(*evaluated),
        "training": largest(passes[0].outputs, passes[1].outputs),
        "gradients": largest(passes[0].gradients, mapping.sums_to_left(passes[1].gradients)),
    }
    if steps:
        optimizer = AdamWConfig(lr=1e-2, eps=1e-4)
        ours, theirs = (
            side.train(batches, weights, optimizer, trained(side))[-1] for side in (left, right)
        )
        moved = largest(alignment.values, ours[1], trained(left))
        assert moved > 1e-3  # it has learned
        differences["steps"] = largest(ours[1], mapping.to_left(theirs[1], own), trained(left))
    return Comparison(
        differences,
        passes,
        tuple(trace.draws for trace in traces),
        lambda arrays: mapping.to_left({**right.values(), **arrays}, own),
    )


def trained(subject: Subject) -> dict[str, np.ndarray]:
    arrays = subject.description.arrays
    return {array.name: np.ones(array.shape, bool) for array in arrays if array.is_trained}


def slow(*case: str) -> object:
    return pytest.param(*case, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("model", "left", "right"),
    [
        ("cnn", "torch", "equinox"),
        ("cnn", "torch", "nnx"),
        ("gpt", "torch", "linen"),
        slow("cnn", "torch", "linen"),
        slow("cnn", "torch", "functions"),
        slow("vit", "torch", "nnx"),
        slow("cnn", "linen", "nnx"),
        slow("vit", "torch", "linen"),
        slow("vit", "torch", "equinox"),
        slow("vit", "torch", "functions"),
        slow("vit", "nnx", "equinox"),
        slow("gpt", "torch", "nnx"),
        slow("gpt", "torch", "equinox"),
        slow("gpt", "torch", "functions"),
        slow("gpt", "linen", "nnx"),
    ],
)
def test_a_model_written_in_another_way_is_the_same(model, left, right):
    """In evaluation and training, by its gradients, and after two steps."""
    sides = opened(left, model), opened(right, model)
    found = compared(*sides, [inputs_of(model), inputs_of(model, 1)])
    assert {name: far for name, far in found.differences.items() if not far < BAR} == {}
    rate = LATE_DROPOUT if model == "cnn" else DROPOUT
    for draws in found.draws:
        assert [(draw.kind, draw.number) for draw in draws] == [("bernoulli", 1 - rate)] * len(
            draws
        )
        assert [draw.size for draw in draws] == [draw.size for draw in found.draws[0]]
    assert len(found.draws[0]) == (1 if model == "cnn" else 2)
    if model == "cnn":
        check_statistics(sides[0], found, unbiased=left == "torch")


def check_statistics(left: Subject, found: Comparison, unbiased: bool) -> None:
    """Running means agree; torch's variances are those of a sample, n / (n - 1) times as large."""
    before, ours, theirs = (
        left.values(),
        found.passes[0].buffers,
        found.to_left(found.passes[1].buffers),
    )
    buffers = [array.name for array in left.description.arrays if not array.is_trained]
    assert sorted(ours) == sorted(buffers)
    assert len(buffers) == 4
    for name in buffers:
        size = BATCH * (SIZE if "1" in name or ".0." in name else SIZE // 4) ** 2
        factor = size / (size - 1) if unbiased and "var" in name else 1
        old = MOMENTUM * before[name]
        np.testing.assert_allclose(ours[name] - old, factor * (theirs[name] - old), atol=BAR)


class Layer(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, None]:
        x = x + linen.Dropout(0.5, deterministic=not train)(
            jnp.tanh(linen.Dense(4, name="dense")(x))
        )
        return x, None


class Stack(linen.Module):
    """Three layers in a scan, with their weights stacked, or one after the other."""

    stacked: bool

    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        if not self.stacked:
            for number in range(3):
                x, _ = Layer(name=f"layer_{number}")(x, train)
            return x
        rngs, axes = {"params": True, "dropout": True}, {"params": 0}
        scan = linen.scan(Layer, axes, split_rngs=rngs, in_axes=linen.broadcast, length=3)
        return scan(name="layers")(x, train)[0]


def test_layers_stacked_for_a_scan_are_those_one_after_the_other():
    x = {"x": np.random.default_rng(0).standard_normal((2, 4))}
    plain, stacked = in_jax(Stack(False), x), in_jax(Stack(True), x)
    shapes = {array.name: array.shape for array in stacked.description.arrays}
    assert shapes == {"layers.dense.bias": (3, 4), "layers.dense.kernel": (3, 4, 4)}
    found = compared(plain, stacked, [x, x])
    assert max(found.differences.values()) < BAR
    assert [[draw.size for draw in draws] for draws in found.draws] == [[8, 8, 8]] * 2


def test_keywords_reach_each_call_and_a_tied_table_is_one_array():
    inputs, keywords = inputs_of("gpt"), {"return_hidden": True}
    for kind in ("torch", "linen", "nnx", "equinox", "functions"):
        make = import_module(f"verify_models.in_{kind}").gpt
        backend = lightning_impl.verify if kind == "torch" else flax_impl.verify
        subject = backend.open_subject(make(depth=0), inputs, keywords, {})
        subject_shapes = sorted(array.shape for array in subject.description.arrays)
        assert subject_shapes == sorted([(8,), (8,), (LENGTH, 8), (VOCABULARY, 8)]), kind
        if kind == "torch":
            assert set(subject.trace(inputs, False).outputs) == {"logits", "hidden"}
        else:
            shapes = jax.eval_shape(
                lambda arrays, s=subject: s.function.apply(arrays, inputs, False)[0],
                subject.function.arrays,
            )
            assert {name: out.shape[-1] for name, out in shapes.items()} == {
                "logits": 11,
                "hidden": 8,
            }


# NNX


class Parts(nnx.Module):
    """Parameters in a list and a dictionary, a counter, a bare array, and random numbers from its caller."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List([nnx.Linear(4, 4, rngs=rngs)])
        self.more = nnx.Dict(norm=nnx.BatchNorm(4, rngs=rngs))
        self.calls = nnx.BatchStat(jnp.zeros((), jnp.int32))
        self.shift = nnx.data(jnp.full(4, 2.0))
        self.dropout = nnx.Dropout(0.5)

    def __call__(self, x: jax.Array, rngs: nnx.Rngs) -> jax.Array:
        self.calls[...] += 1
        x = self.more["norm"](self.layers[0](x)) * self.calls[...]
        return self.dropout(x, rngs=rngs) + self.shift


def test_an_nnx_module_has_parameters_buffers_and_counters_by_their_paths():
    x = {"x": np.random.default_rng(0).standard_normal((2, 4))}
    model = Parts(nnx.Rngs(0))
    subject = in_jax(model, x)
    assert {array.name: array.is_trained for array in subject.description.arrays} == {
        "layers.0.bias": True, "layers.0.kernel": True, "more.norm.bias": True, "more.norm.mean": False,
        "more.norm.scale": True, "more.norm.var": False, "shift": False,
    }  # fmt: skip
    trace = subject.trace(x, True)
    assert [(draw.number, draw.size) for draw in trace.draws] == [(0.5, 8)]
    assert set(trace.buffers) == {"more.norm.mean", "more.norm.var"}
    assert {op.layer for op in trace.ops if op.name == "dot_general"} == {"layers.0"}
    assert {op.layer for op in trace.ops if op.name == "rsqrt"} == {"more.norm"}
    assert int(model.calls[...]) == 0  # the user's own model stays as it is
    # The counter goes on from step to step: the second loss is twice as large, up to the shift.
    weights = {"output": np.ones((2, 4))}
    still = AdamWConfig(lr=1e-30)
    losses = [loss - 16 for loss, _ in subject.train([x, x], weights, still, trained(subject))]
    assert losses[1] == pytest.approx(2 * losses[0], rel=1e-9)


# Equinox


class Whole(eqx.Module):
    """Takes a batch."""

    weight: jax.Array
    rate: float = 0.5

    def __call__(self, x: jax.Array, enable_dropout: bool, key: jax.Array) -> jax.Array:
        batch, size = x.shape
        x = x.reshape(batch, size) @ self.weight
        return jax.random.bernoulli(key, self.rate, x.shape) * x * 2 if enable_dropout else x


def test_an_equinox_module_takes_a_sample_or_the_batch():
    x = {"x": np.random.default_rng(0).standard_normal((2, 4))}
    whole = in_jax(Whole(jnp.eye(4)), x)
    assert whole.description.notes == ("is called on the whole batch",)
    assert [array.name for array in whole.description.arrays] == ["weight"]  # not the rate
    assert whole.trace(x, True).outputs["output"] == pytest.approx(2 * x["x"])
    assert whole.trace(x, False).outputs["output"] == pytest.approx(x["x"])
    single = in_jax(eqx.nn.Linear(4, 3, key=jax.random.key(0)), x)
    assert single.description.notes == ("is called on one sample at a time, vmapped",)
    assert single.trace(x, False).outputs["output"].shape == (2, 3)


def test_the_statistics_of_an_equinox_module_go_by_the_names_of_its_layers():
    x = {"x": np.random.default_rng(0).standard_normal((5, 3, 2))}
    pair = eqx.nn.make_with_state(eqx.nn.BatchNorm)(3, "samples", mode="ema", momentum=0.75)
    subject = in_jax(pair, x)
    kinds = {array.name: array.is_trained for array in subject.description.arrays}
    assert kinds == {"weight": True, "bias": True, "running_mean": False, "running_var": False}
    assert subject.values()["running_var"].tolist() == [
        1,
        1,
        1,
    ]  # Equinox leaves zeros until it trains
    batches = [x, {"x": 3 * x["x"]}]
    weights = {"output": np.ones((5, 3, 2))}
    (_, first), (_, second) = subject.train(batches, weights, AdamWConfig(), trained(subject))
    mean = x["x"].mean((0, 2))
    assert first["running_mean"] == pytest.approx(mean)  # of the first batch alone
    assert second["running_mean"] == pytest.approx(0.75 * mean + 0.25 * 3 * mean)
    with pytest.raises(UserError, match=r"its state is missing\. Give the pair"):
        in_jax(pair[0], x)
    made = eqx.nn.BatchNorm(3, "samples", mode="batch")  # still with its state inside
    assert len(in_jax(made, x).description.arrays) == 4


def test_the_layers_of_equinox_are_named_while_it_is_traced_and_its_classes_left_alone():
    before = eqx.nn.Linear.__call__, eqx.nn.Conv.__call__
    trace = opened("equinox", "cnn").trace(inputs_of("cnn"), False)
    products = [op.layer for op in trace.ops if op.name in ("conv_general_dilated", "dot_general")]
    assert products == ["convs.0", "convs.1", "head"]
    assert {op.layer for op in trace.ops if op.name == "sqrt"} == {"norms.0", "norms.1"}
    assert [op.layer for op in trace.ops if op.name == "reduce_window_max"] == ["pool"]
    assert {op.source.partition(":")[0] for op in trace.ops if op.source} == {"in_equinox.py"}
    assert before == (eqx.nn.Linear.__call__, eqx.nn.Conv.__call__)


def test_equinox_is_imported_for_its_own_modules_alone(monkeypatch):
    x = {"x": np.ones((2, 4))}
    linear = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    monkeypatch.setitem(sys.modules, "equinox", None)  # as if it were not there
    made = (linen.Dense(3), linear, stax.Dense(3))
    kinds = [in_jax(model, x).description.kind for model in made]
    assert kinds == ["flax.linen.Module", "flax.nnx.Module", "(init, apply)"]


# Functions


WEIGHT = np.ones((4, 3))


class Haiku(NamedTuple):
    init: Callable
    apply: Callable


def shape_init(key, input_shape):
    return (*input_shape[:-1], 3), {"w": jnp.ones((input_shape[-1], 3))}


def flagged(params, x, *, train=False, mask=None):
    return x @ params["w"] * (2 if train else 1)


def keyed(params, x, **kwargs):
    return x @ params["w"] * jax.random.bernoulli(kwargs["rng"], 0.5, (3,))


def counted_init(rng, x, is_training):
    return {"w": WEIGHT}, {"count": jnp.zeros((), int), "w": x.mean(0)}


def counted(params, state, rng, x, is_training):
    count = state["count"] + is_training
    return x @ params["w"], {"count": count, "w": state["w"] + x.mean(0)}


@pytest.mark.parametrize(
    ("made", "names", "trained_names"),
    [
        ((lambda: {"w": WEIGHT}, flagged), ["w"], ["w"]),
        ((lambda key: {"w": WEIGHT, "act": "relu", "heads": 2}, flagged), ["w"], ["w"]),
        ((lambda rng, x: {"w": jnp.ones((x.shape[-1], 3))}, flagged), ["w"], ["w"]),
        ((lambda key, batch, unused=1: {"w": jnp.ones((batch.shape[-1], 3))}, flagged), ["w"], ["w"]),
        ((shape_init, keyed), ["w"], ["w"]),
        ((lambda key: WEIGHT, lambda w, x: x @ w), ["params"], ["params"]),
        ((lambda key: [1.5, (WEIGHT,)], lambda p, x: p[0] * x @ p[1][0]), ["0", "1.0"], ["0", "1.0"]),
        (Haiku(counted_init, counted), ["w", "state.w"], ["w"]),
        ((linen.Dense(3, use_bias=False).init, linen.Dense(3, use_bias=False).apply), ["kernel"], ["kernel"]),
    ],
    ids=["no key", "key", "input", "in order", "shape", "array", "list", "state", "linen's methods"],
)  # fmt: skip
def test_a_pair_of_functions_gets_what_its_signatures_ask_for(made, names, trained_names):
    x = {"x": np.random.default_rng(0).standard_normal((2, 4))}
    subject = in_jax(made, x)
    assert [array.name for array in subject.description.arrays] == names
    assert list(trained(subject)) == trained_names
    for training in (False, True):
        assert subject.trace(x, training).outputs["output"].shape == (2, 3)


def test_inputs_keep_their_order_where_a_model_names_them_otherwise():
    """JAX sorts the keys of a dictionary, also on its way into a compiled function."""
    inputs = {"z": np.full((2, 2), 5.0), "a": np.full((2, 2), 3.0)}
    subject = in_jax((lambda key: {}, lambda params, first, second: first - second), inputs)
    assert (subject.trace(inputs, False).outputs["output"] == 2).all()
    assert (subject.run(inputs, False, {"output": np.ones((2, 2))}).outputs["output"] == 2).all()


def test_a_function_without_parameters_is_a_model():
    x = {"x": np.linspace(-2, 2, 12).reshape(3, 4)}
    left, right = (
        in_torch(torch.nn.GELU(), x),
        in_jax((lambda: {}, lambda _, x: jax.nn.gelu(x, False)), x),
    )
    assert left.description.arrays == right.description.arrays == ()
    weights = {"output": np.ones((3, 4))}
    alignment = Aligner(left, right, (x, x), 0).align()
    assert alignment.matching.matches == []
    for side in (left, right):
        assert side.run(x, True, weights).gradients == {}
        assert len(side.train([x, x], weights, AdamWConfig(), {})) == 2
    outputs = [side.trace(x, False).outputs["output"] for side in (left, right)]
    assert np.abs(outputs[0] - outputs[1]).max() < 1e-15


# Torch


def test_torch_counters_and_replaced_buffers_are_restored():
    class Averaged(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(4, momentum=None)  # a mean over all batches
            self.lazy = torch.nn.LazyLinear(2)
            self.register_buffer("largest", torch.zeros(()))

        def forward(self, x):
            if self.training:
                self.largest = torch.maximum(self.largest, x.detach().max())
            return self.lazy(self.norm(x))

    x = {"x": np.random.default_rng(0).standard_normal((5, 4))}
    subject = in_torch(Averaged(), x)
    assert ("lazy.weight", (2, 4)) in [(a.name, a.shape) for a in subject.description.arrays]
    weights = {"output": np.ones((5, 2))}
    first, second = (subject.run(x, True, weights).buffers for _ in range(2))
    assert set(first) == {"norm.running_mean", "norm.running_var", "largest"}
    assert largest(first, second) == 0
    assert first["norm.running_mean"] == pytest.approx(x["x"].mean(0))
    assert first["largest"] == x["x"].max()
    assert subject.values()["largest"] == 0


# Layouts and refusals


class Turned(nnx.Module):
    """Wants its channels first, against the custom of its framework."""

    def __init__(self) -> None:
        self.conv = nnx.Conv(3, 2, (3, 3), rngs=nnx.Rngs(0))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.conv(jnp.moveaxis(x, 1, -1)).mean((1, 2))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_images_are_turned_for_the_side_that_wants_another_layout(layout):
    image = np.random.default_rng(0).standard_normal((2, 3, 6, 5))
    x = {"x": image if layout == "NCHW" else np.moveaxis(image, 1, -1)}
    conv = torch.nn.Conv2d(3, 2, 3, padding=1)
    conv = torch.nn.Sequential(conv, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
    last = (
        lambda key: {"w": jnp.ones((3, 3, 3, 2))},
        lambda params, x: x.mean((1, 2)) @ jnp.eye(3),
    )
    # Each has been run on them when it was opened.
    for subject, taken in (
        (in_torch(conv, x, x=layout), "NCHW"),
        (in_jax(Turned(), x, x=layout), "NCHW"),
        (in_jax(eqx.nn.Conv2d(3, 2, 3, key=jax.random.key(0)), x, x=layout), "NCHW"),
        (in_jax(last, x, x=layout), "NHWC"),
        (in_jax(linen.Conv(2, (3, 3)), x, x=layout), "NHWC"),
    ):
        notes = [note for note in subject.description.notes if "turned" in note]
        assert notes == ([] if taken == layout else [f"x is turned to {taken}"])


def test_what_refuses_its_inputs_in_both_layouts_is_told_with_its_own_words_and_the_shapes():
    x = {"x": np.ones((2, 4, 6, 6)), "scale": np.ones(2)}
    with pytest.raises(UserError) as caught:
        in_torch(torch.nn.Conv2d(3, 2, 3), {"x": x["x"]}, x="NCHW")
    assert str(caught.value) == (
        "inputs=x=float64[2,4,6,6]: Conv2d refuses them: RuntimeError: Given groups=1, weight of size "
        "[2, 3, 3, 3], expected input[2, 4, 6, 6] to have 3 channels, but got 4 channels instead. "
        "Images were tried with channels first and last."
    )
    told = r"x=float64\[2,6,6,4\], scale=.*: \(<lambda>, f\) refuses them: ValueError: no \(test_verify_"
    with pytest.raises(UserError, match=told):
        in_jax((lambda: {}, f), x, x="NCHW")
    with pytest.raises(
        UserError, match=r"Turned refuses them: TypeError: .*takes 2 positional arguments"
    ):
        in_jax(Turned(), x)


def f(params, x, scale):
    raise ValueError("no\nmore")


@pytest.mark.parametrize(
    "made", [{"w": 1}, (1, 2), None, lambda x: x], ids=["dict", "pair", "None", "lambda"]
)
def test_an_object_of_no_known_kind_is_refused_with_the_kinds_that_are_accepted(made):
    kind = type(made).__name__
    with pytest.raises(UserError) as caught:
        in_jax(made, {})
    assert str(caught.value) == (
        f"model=an object of type {kind}: must be a Flax linen or NNX module, an Equinox module (with its "
        "state: a pair (model, state)), or a pair of functions (init, apply)."
    )
    with pytest.raises(UserError, match=f"an object of type {kind}: must be a torch.nn.Module."):
        in_torch(made, {})
