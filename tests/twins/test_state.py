"""The portable state: what comes out of one backend is what the other would have given."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from flax_impl import layers as flax_layers
from flax_impl import models as flax_models
from flax_impl import optimizers as flax_optimizers
from flax_impl import state as flax_state
from flax_impl.step import TrainState
from lightning_impl import models as torch_models
from lightning_impl import optimizers as torch_optimizers
from lightning_impl import state as torch_state
from pipeline.config import (
    AdamConfig,
    AdamWConfig,
    CNNConfig,
    Config,
    Initial,
    LinearConfig,
    MLPConfig,
    SGDConfig,
    SimpleCNNConfig,
)
from pipeline.portable import PortableState, digest

KINDS = {kind.name: kind for kind in flax_layers.KINDS.values()}
RANKS = {"linear": 2, "conv": 4}
SHAPE = (8, 9, 2)
EMA = 0.9


def test_every_kind_of_layer_is_known_here():
    assert KINDS.keys() == RANKS.keys()


@settings(max_examples=100, deadline=None)
@given(
    kind=st.sampled_from(sorted(RANKS)),
    sides=st.lists(st.integers(1, 5), min_size=4, max_size=4),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_canonical_arrays_come_back_bit_for_bit(kind, sides, dtype):
    random = np.random.default_rng(0)
    weight = random.normal(size=sides[: RANKS[kind]]).astype(dtype)
    arrays = {"a.b.weight": weight, "a.b.bias": random.normal(size=sides[0]).astype(dtype)}
    kinds = {"a.b": KINDS[kind]}
    back = flax_state.to_canonical(flax_state.from_canonical(arrays, kinds), kinds)
    assert digest(back) == digest(arrays)


def build(config, dtype):
    """A model on both sides at step 0: torch's model, Flax's parameters, the kinds of layers."""
    torch_dtype = {np.float64: torch.float64, np.float32: torch.float32}[dtype]
    torch_model = torch_models.build_model(config.model, SHAPE, 5).to(torch_dtype)
    flax_model = flax_models.build_model(config.model, SHAPE, 5, dtype=dtype, param_dtype=dtype)
    inputs = jax.ShapeDtypeStruct((1, *SHAPE), dtype)
    kinds = flax_layers.layer_kinds(flax_model, inputs)
    shapes = jax.eval_shape(flax_model.init, jax.random.key(0), inputs)["params"]
    portable = flax_state.initial_state(shapes, kinds, config)
    torch_state.from_portable(torch_state.initial_state(torch_model, config), torch_model)
    params = flax_state.from_portable(portable, kinds, dtype)
    return torch_model, jax.tree.map(jnp.asarray, params), kinds


@pytest.mark.parametrize("model", [LinearConfig, MLPConfig, CNNConfig, SimpleCNNConfig])
@pytest.mark.parametrize("init", list(Initial), ids=lambda init: init.name)
@pytest.mark.usefixtures("float64")
def test_the_weights_at_step_0_are_the_same_bytes(model, init):
    digests = set()
    for dtype, seed in ((np.float32, 0), (np.float64, 0), (np.float64, 1)):
        torch_model, params, kinds = build(Config(model=model(init=init), seed=seed), dtype)
        ours, theirs = (
            torch_state.parameters_of(torch_model),
            flax_state.to_canonical(params, kinds),
        )
        assert {array.dtype.type for array in ours.values()} == {dtype}
        assert digest(ours) == digest(theirs)
        digests.add(digest(ours))
    assert len(digests) == 3


OPTIMIZERS = [
    (SGDConfig(), {"momentum_buffer"}),
    (SGDConfig(momentum=0), set()),
    (AdamConfig(), {"exp_avg", "exp_avg_sq"}),
    (AdamWConfig(), {"exp_avg", "exp_avg_sq"}),
]


@pytest.mark.parametrize("model", [MLPConfig(hidden=[7]), CNNConfig()], ids=["mlp", "cnn"])
@pytest.mark.parametrize(("optimizer", "slots"), OPTIMIZERS)
@pytest.mark.usefixtures("float64")
def test_after_some_steps_all_of_the_state_is_named_laid_out_and_valued_alike(
    model, optimizer, slots
):
    torch_model, params, kinds = build(Config(model=model), np.float64)
    torch_optimizer = torch_optimizers.build_optimizer(optimizer, torch_model.named_parameters())
    average = AveragedModel(torch_model, multi_avg_fn=get_ema_multi_avg_fn(EMA))
    state = TrainState.create(
        apply_fn=None,
        params=params,
        tx=flax_optimizers.build_optimizer(optimizer),
        averages=jax.tree.map(jnp.copy, params),
    )
    update = jax.jit(partial(TrainState.apply_gradients, ema=EMA))
    random = np.random.default_rng(0)
    for _ in range(4):
        gradients = {n: random.normal(size=p.shape) for n, p in torch_model.named_parameters()}
        for name, parameter in torch_model.named_parameters():
            parameter.grad = torch.tensor(gradients[name])
        torch_optimizer.step()
        average.update_parameters(torch_model)
        grads = flax_state.from_canonical(gradients, kinds)
        state = update(state, grads=grads, learning_rate=jnp.asarray(optimizer.lr))
    averages = dict(average.module.named_parameters())
    ours = torch_state.to_portable(4, torch_model, torch_optimizer, averages)
    theirs = flax_state.to_portable(state, kinds)
    assert ours.step == theirs.step == 4
    assert ours.slots.keys() == theirs.slots.keys() == slots
    assert_close(ours.parameters, theirs.parameters)
    assert_close(ours.averages, theirs.averages)
    for slot in ours.slots:
        assert_close(ours.slots[slot], theirs.slots[slot])


def assert_close(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-12, atol=1e-15, err_msg=name)


def test_a_portable_state_shares_no_memory_with_the_model():
    torch_model, *_ = build(Config(model=LinearConfig()), np.float32)
    arrays = torch_state.parameters_of(torch_model)
    before = digest(arrays)
    with torch.no_grad():
        torch_model.fc.weight.zero_()
    assert digest(arrays) == before


def test_a_parameter_that_the_state_lacks_is_named():
    torch_model, *_ = build(Config(model=LinearConfig()), np.float32)
    with pytest.raises(KeyError, match=r"fc\.weight"):
        torch_state.from_portable(PortableState(step=0, parameters={}), torch_model)
