"""The portable state: exported by one backend, it is what the other would export, and it loads exactly."""

from copy import copy
from dataclasses import replace
from functools import cache, partial

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from asserts import assert_states_close, assert_states_identical
from flax.traverse_util import flatten_dict, unflatten_dict
from gradients import randomised
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import OTHER
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from flax_impl import layers as flax_layers
from flax_impl import layout as flax_layout
from flax_impl import models as flax_models
from flax_impl import norms as flax_norms
from flax_impl import optimizers as flax_optimizers
from flax_impl import state as flax_state
from flax_impl.training.train_state import TrainState
from lightning_impl import layers as torch_layers
from lightning_impl import models as torch_models
from lightning_impl import norms as torch_norms
from lightning_impl import optimizers as torch_optimizers
from lightning_impl import state as torch_state
from pipeline.config.experiment import Config
from pipeline.config.models import (
    CNNConfig,
    Initializer,
    LinearConfig,
    MLPConfig,
    ResNet18Config,
    SimpleCNNConfig,
    ViTConfig,
)
from pipeline.config.optimizers import OPTIMIZERS as CONFIGS
from pipeline.config.optimizers import AdamWConfig, SGDConfig
from pipeline.config.train import TrainConfig
from pipeline.digest import digest
from pipeline.storage.portable_state import PortableState
from pipeline.training.param_groups import param_groups

SHAPE = (8, 8, 2)
EMA = 0.9
SIZES = st.integers(1, 4)
CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


@st.composite
def layer_pairs(draw, kind=None):
    """A layer on both backends, and the shape of its inputs (channels last)."""
    kind = kind or draw(st.sampled_from(sorted(PAIRS)))
    inside, out, bias = draw(SIZES), draw(SIZES), draw(st.booleans())
    rank, kernel = draw(st.integers(1, 3)), draw(st.tuples(SIZES, SIZES, SIZES))
    return PAIRS[kind](inside, out, bias, kernel[:rank])


def conv_pair(inside, out, bias, kernel):
    groups = 2 if bias else 1
    pair = CONVS[len(kernel)](groups * inside, groups * out, kernel, bias=bias, groups=groups)
    ours = linen.Conv(groups * out, kernel, padding=0, use_bias=bias, feature_group_count=groups)
    return pair, ours, (1, *(4,) * len(kernel), groups * inside)


def conv_transpose_pair(inside, out, bias, kernel):
    pair = TRANSPOSED[len(kernel)](inside, out, kernel, bias=bias)
    ours = linen.ConvTranspose(out, kernel, padding=0, use_bias=bias, transpose_kernel=True)
    return pair, ours, (1, *(4,) * len(kernel), inside)


def attention_pair(inside, out, bias, kernel):
    pair = nn.MultiheadAttention(inside * out, inside, bias=bias)
    ours = linen.MultiHeadDotProductAttention(inside, use_bias=bias)
    return pair, ours, (1, 3, inside * out)


def norm_pair(inside, out, bias, kernel):
    pair, ours = {
        (1, True): (torch_norms.BatchNorm(out), flax_norms.BatchNorm()),
        (1, False): (nn.BatchNorm2d(out), linen.BatchNorm(use_running_average=True)),
        (2, True): (torch_norms.LayerNorm(out), flax_norms.LayerNorm()),
        (2, False): (nn.RMSNorm(out), linen.RMSNorm()),
        (3, True): (nn.GroupNorm(1, out), linen.GroupNorm(1)),
        (3, False): (nn.InstanceNorm2d(out, affine=True), linen.InstanceNorm()),
    }[len(kernel), bias]
    return pair, ours, (2, 3, 3, out)


PAIRS = {
    "linear": lambda inside, out, bias, kernel: (
        nn.Linear(inside, out, bias), linen.Dense(out, use_bias=bias), (1, inside)
    ),
    "conv": conv_pair,
    "conv_transpose": conv_transpose_pair,
    "embedding": lambda inside, out, bias, kernel: (
        nn.Embedding(inside, out), linen.Embed(inside, out), (2,)
    ),
    "norm": norm_pair,
    "attention": attention_pair,
}  # fmt: skip


def test_every_layer_kind_is_tested_here():
    assert {kind for kind, _ in flax_layers.KINDS.values()} == PAIRS.keys()
    assert set(torch_layers.KINDS.values()) == PAIRS.keys()


def layout_of(model, shape, tokens=False):
    return flax_layout.layout_of(
        model, jax.ShapeDtypeStruct(shape, np.int32 if tokens else np.float32)
    )


@settings(max_examples=50)
@given(layer_pairs(), st.sampled_from([np.float32, np.float64]))
def test_arrays_of_any_layer_convert_there_and_back_bit_for_bit(pair, dtype):
    torch_layer, flax_layer, shape = pair
    layout = layout_of(flax_layer, shape, isinstance(torch_layer, nn.Embedding))
    assert flax_layers.layer_kinds(layout) == torch_layers.layer_kinds(torch_layer)
    assert flax_state.shapes_of(layout) == torch_state.shapes_of(torch_layer)
    random = np.random.default_rng(0)
    arrays = {
        name: random.normal(size=shape).astype(dtype)
        for name, shape in torch_state.shapes_of(torch_layer).items()
    }
    tree = flax_state.from_canonical(arrays, layout)
    shapes = {path: leaf.shape for path, leaf in flatten_dict(tree).items()}
    assert shapes == {path: place.shape for path, place in layout.items()}
    assert digest(flax_state.to_canonical(tree, layout)) == digest(arrays)

    leaves = {path: random.normal(size=shape).astype(dtype) for path, shape in shapes.items()}
    canonical = flax_state.to_canonical(unflatten_dict(leaves), layout)
    back = flatten_dict(flax_state.from_canonical(canonical, layout))
    assert back.keys() == leaves.keys()
    for path, leaf in leaves.items():
        assert back[path].dtype == dtype
        np.testing.assert_array_equal(back[path], leaf)


def test_converted_arrays_share_no_memory_with_the_originals():
    layout = layout_of(linen.Dense(3), (1, 4))
    arrays = {"weight": np.ones((3, 4)), "bias": np.ones(3)}
    tree = flax_state.from_canonical(arrays, layout)
    canonical = flax_state.to_canonical(tree, layout)
    for array in [*arrays.values(), *flatten_dict(tree).values()]:
        array[:] = 7
    for array in canonical.values():
        np.testing.assert_array_equal(array, 1)
    torch_model = nn.Linear(4, 3)
    before = torch_state.parameters_of(torch_model)
    kept = digest(before)
    with torch.no_grad():
        torch_model.weight.zero_()
    assert digest(before) == kept


@cache
def layout_at_start(model, dtype):
    """Flax layout of one of `MODELS`, which does not depend on the initializer."""
    config = MODELS[model]
    flax_model = flax_models.build_model(config, SHAPE, 5, dtype=dtype, param_dtype=dtype)
    return layout_of(flax_model, (1, *SHAPE))


def initial(model, config, dtype):
    """Initial parameters and buffers of each backend, by canonical name."""
    torch_dtype = {np.float64: torch.float64, np.float32: torch.float32}[dtype]
    torch_model = torch_models.build_model(config.model, SHAPE, 5).to(torch_dtype)
    torch_state.from_portable(torch_state.initial_state(torch_model, config), torch_model)
    ours = torch_state.parameters_of(torch_model) | torch_state.buffers_of(torch_model)
    layout = layout_at_start(model, dtype)
    portable = flax_state.initial_state(layout, config)
    tree = flax_state.from_canonical(portable.parameters | portable.buffers, layout)
    tree = jax.tree.map(partial(jnp.asarray, dtype=dtype), tree)
    return ours, flax_state.to_canonical(tree, layout)


MODELS = {
    "linear": LinearConfig(),
    "mlp": MLPConfig(),
    "cnn": CNNConfig(),
    "simple_cnn": SimpleCNNConfig(),
    "resnet18": ResNet18Config(width=2),
    "vit": ViTConfig(depth=1, width=8, heads=2),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(
    "init",
    [each for each in Initializer if each is not Initializer.own],
    ids=lambda init: init.name,
)
@pytest.mark.usefixtures("float64")
def test_initial_weights_are_the_same_bytes_on_both_backends(model, init):
    digests = set()
    for dtype, seed in ((np.float32, 0), (np.float64, 0), (np.float64, 1)):
        config = Config(model=replace(MODELS[model], init=init), seed=seed)
        ours, theirs = initial(model, config, dtype)
        assert {array.dtype.type for array in ours.values()} == {dtype}
        assert digest(ours) == digest(theirs)
        digests.add(digest(ours))
    assert len(digests) == 3


class TorchWhole(nn.Module):
    """A layer of every kind, and parameters of its own."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.scale = nn.Parameter(torch.zeros(()))
        self.embed = nn.Embedding(5, 8)
        self.conv = nn.Conv2d(2, 4, 3)
        self.up = nn.ConvTranspose2d(4, 8, 2)
        self.bn = torch_norms.BatchNorm(8)
        self.block = nn.ModuleList([nn.MultiheadAttention(8, 2, batch_first=True)])
        self.ln = torch_norms.LayerNorm(8)
        self.fc = nn.Linear(8, 3)


class FlaxWhole(linen.Module):
    """The Flax twin, whose outputs do not matter."""

    @linen.compact
    def __call__(self, x):
        token = self.param("token", linen.initializers.zeros, (1, 1, 8), float)
        scale = self.param("scale", linen.initializers.zeros, (), float)
        embed = linen.Embed(5, 8, name="embed")(jnp.zeros((1, 1), int))
        x = linen.Conv(4, (3, 3), padding=0, name="conv")(x)
        x = linen.ConvTranspose(8, (2, 2), padding=0, transpose_kernel=True, name="up")(x)
        x = flax_norms.BatchNorm(name="bn")(x).reshape(len(x), -1, 8) * scale + token + embed
        x = linen.MultiHeadDotProductAttention(2, name="block.0")(x)
        return linen.Dense(3, name="fc")(flax_norms.LayerNorm(name="ln")(x))


class TorchRun:
    """The torch side of a run, to which gradients are given."""

    def __init__(self, config):
        self.config = config
        self.model = randomised(TorchWhole())
        shapes = {name: tuple(p.shape) for name, p in self.model.named_parameters()}
        self.groups = param_groups(shapes, torch_layers.layer_kinds(self.model), config)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(not self.groups[name].frozen)
        self.optimizer = torch_optimizers.build_optimizer(
            config.optimizer, self.model.named_parameters(), self.groups
        )
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(EMA))
        self.steps = 0

    def step(self, gradients, buffers):
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                parameter.grad = torch.tensor(gradients[name])
        for name, buffer in self.model.named_buffers():
            if name in buffers:
                buffer.copy_(torch.tensor(buffers[name]))
        self.optimizer.step()
        self.average.update_parameters(self.model)
        self.steps += 1

    def out(self):
        averages = dict(self.average.module.named_parameters())
        return torch_state.to_portable(self.steps, self.model, self.optimizer, averages)

    def take(self, portable):
        torch_state.from_portable(portable, self.model, self.optimizer, self.average.module)
        self.average.n_averaged.fill_(portable.step)
        self.steps = portable.step
        return self


class FlaxRun:
    """The Flax side of a run, to which gradients are given."""

    def __init__(self, config):
        self.config = config
        self.layout = layout_of(FlaxWhole(), (1, *SHAPE))
        start = randomised(TorchWhole())
        arrays = torch_state.parameters_of(start)
        kinds = flax_layers.layer_kinds(self.layout)
        chosen = param_groups({name: a.shape for name, a in arrays.items()}, kinds, config)
        folds = {
            place.name: place.transforms
            for place in self.layout.values()
            if place.collection == "params"
        }
        params = self.tree(arrays)
        self.state = TrainState.create(
            apply_fn=None,
            params=params,
            tx=flax_optimizers.build_descent(
                config.optimizer,
                flax_state.by_path(chosen, self.layout),
                layouts=flax_state.by_path(folds, self.layout),
            ),
            batch_stats=self.tree(torch_state.buffers_of(start)),
            averages=jax.tree.map(jnp.copy, params),
        ).replace(step=jnp.zeros((), jnp.int32))
        self.update = jax.jit(partial(TrainState.updated, ema=EMA))

    def tree(self, arrays):
        return jax.tree.map(jnp.asarray, flax_state.from_canonical(arrays, self.layout))

    def step(self, gradients, buffers):
        self.state = self.update(
            self.state,
            grads=self.tree(gradients),
            learning_rate=jnp.asarray(self.config.optimizer.lr),
            batch_stats=self.tree(buffers),
        )

    def out(self):
        return flax_state.to_portable(self.state, self.layout)

    def take(self, portable):
        self.state = flax_state.from_portable(portable, self.state, self.layout)
        return self


SIDES = {"torch": TorchRun, "jax": FlaxRun}
SLOTS = {
    "sgd": {"momentum_buffer"},
    "adam": {"exp_avg", "exp_avg_sq"},
    "adamw": {"exp_avg", "exp_avg_sq"},
    "amsgrad": {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"},
    "rmsprop": {"square_avg"},
    "adagrad": {"sum"},
    "adadelta": {"square_avg", "acc_delta"},
    "adamax": {"exp_avg", "exp_inf"},
    "nadam": {"exp_avg", "exp_avg_sq"},
    "radam": {"exp_avg", "exp_avg_sq"},
    "lion": {"exp_avg"},
    "lamb": {"exp_avg", "exp_avg_sq"},
    "muon": {"momentum_buffer", "exp_avg", "exp_avg_sq"},
}
CASES = {name: (Config(optimizer=CONFIGS[name]()), slots) for name, slots in SLOTS.items()} | {
    "sgd without momentum": (Config(optimizer=SGDConfig(momentum=0)), set()),
    "adamw in groups, some frozen": (
        Config(
            optimizer=AdamWConfig(no_decay=["bias", "norm"], lr_factors={"fc.*": 0.1}),
            train=TrainConfig(frozen=["conv.*", "block.0.in_proj_weight", "scale"]),
        ),
        SLOTS["adamw"],
    ),
}


def steps(count, first=0):
    """Gradients and batch statistics of some steps, by canonical name."""
    model = TorchWhole()
    for step in range(first, first + count):
        random = np.random.default_rng(step)
        yield tuple(
            {name: random.uniform(0.5, 2, array.shape) for name, array in arrays.items()}
            for arrays in (torch_state.parameters_of(model), torch_state.buffers_of(model))
        )


def after(run, count, first=0):
    for gradients, buffers in steps(count, first):
        run.step(gradients, buffers)
    return run


@cache
def flax_run(case):
    return FlaxRun(CASES[case][0])


def fresh(case, side):
    """A run at step 0. Flax's, whose arrays are never changed in place, is compiled once."""
    return TorchRun(CASES[case][0]) if side == "torch" else copy(flax_run(case))


@cache
def states(case, side):
    """States after 3 and after 5 steps, without interruption."""
    run = after(fresh(case, side), 3)
    return run.out(), after(run, 2, first=3).out()


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("case", CASES)
def test_both_backends_have_the_same_state_and_load_it_bit_for_bit(case):
    config, slots = CASES[case]
    ours, theirs = (states(case, side)[0] for side in SIDES)
    assert ours.step == 3
    assert ours.slots.keys() == slots
    names = {name for name, _ in TorchWhole().named_parameters()}
    assert ours.parameters.keys() == ours.averages.keys() == names
    assert ours.buffers.keys() == {"bn.running_mean", "bn.running_var"}
    frozen = {"conv.weight", "conv.bias", "block.0.in_proj_weight", "scale"}
    for arrays in ours.slots.values():
        assert arrays.keys() <= names
        assert not config.train.frozen or arrays.keys() == names - frozen
    assert_states_close(ours, theirs)
    for portable in (ours, theirs):
        for side in SIDES:
            assert_states_identical(fresh(case, side).take(portable).out(), portable)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("source", SIDES)
def test_a_run_resumes_from_a_portable_state_as_if_uninterrupted(case, source):
    portable, uninterrupted = states(case, source)
    assert_states_identical(
        after(fresh(case, source).take(portable), 2, first=3).out(), uninterrupted
    )
    assert_states_close(
        after(fresh(case, OTHER[source]).take(portable), 2, first=3).out(), uninterrupted
    )


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("side", SIDES)
def test_at_step_0_averages_and_slots_are_those_of_a_new_run(side):
    config = Config(optimizer=AdamWConfig())
    fresh = SIDES[side](config).out()
    assert fresh.step == 0
    arrays = {name: np.asarray(array + 1) for name, array in fresh.parameters.items()}
    taken = SIDES[side](config).take(PortableState(0, arrays, fresh.buffers)).out()
    assert digest(taken.averages) == digest(taken.parameters) == digest(arrays)
    assert taken.slots.keys() == fresh.slots.keys()


@pytest.mark.usefixtures("float64")
def test_torch_restores_its_batch_counter_from_the_step():
    out = after(TorchRun(Config(optimizer=SGDConfig())), 3).out()
    assert not any("num_batches_tracked" in name for name in out.buffers)
    counted = replace(out, buffers=out.buffers | out.counters(accumulate=2))
    taken = TorchRun(Config(optimizer=SGDConfig())).take(counted)
    assert taken.model.bn.num_batches_tracked == 6


@pytest.mark.parametrize("side", SIDES)
def test_a_double_precision_state_is_cast_to_the_precision_of_the_run(side):
    portable = PortableState(
        2,
        {"weight": np.full((3, 4), 1 / 3), "bias": np.zeros(3)},
        slots={"exp_avg": {"weight": np.full((3, 4), 0.1), "bias": np.zeros(3)}},
    )
    config = AdamWConfig()
    if side == "torch":
        model = nn.Linear(4, 3)
        optimizer = torch_optimizers.build_optimizer(config, model.named_parameters())
        torch_state.from_portable(portable, model, optimizer)
        found = torch_state.to_portable(2, model, optimizer, {})
    else:
        layout = layout_of(linen.Dense(3), (1, 4))
        zeros = {name: np.zeros_like(array) for name, array in portable.parameters.items()}
        params = jax.tree.map(jnp.asarray, flax_state.from_canonical(zeros, layout))
        state = TrainState.create(
            apply_fn=None, params=params, tx=flax_optimizers.build_descent(config)
        ).replace(step=jnp.zeros((), jnp.int32))
        found = flax_state.to_portable(flax_state.from_portable(portable, state, layout), layout)
    for arrays, expected in (
        (found.parameters, portable.parameters),
        (found.slots["exp_avg"], portable.slots["exp_avg"]),
    ):
        assert digest(arrays) == digest({n: a.astype(np.float32) for n, a in expected.items()})


def test_a_parameter_missing_from_the_state_is_named():
    model = nn.Sequential(nn.Linear(4, 3))
    with pytest.raises(KeyError, match=r"0\.weight"):
        torch_state.from_portable(PortableState(step=0, parameters={}), model)
    layout = layout_of(linen.Dense(3), (1, 4))
    params = {"kernel": jnp.zeros((4, 3)), "bias": jnp.zeros(3)}
    state = TrainState.create(
        apply_fn=None, params=params, tx=flax_optimizers.build_descent(SGDConfig())
    )
    with pytest.raises(KeyError, match="weight"):
        flax_state.from_portable(PortableState(step=0, parameters={}), state, layout)
