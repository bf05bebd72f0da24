"""Dropout of the libraries themselves: layers of the same names draw the same masks, if those are shared."""

from functools import partial

import equinox as eqx
import flax.linen as linen
import numpy as np
import pytest
import torch
from flax import nnx
from torch.utils.checkpoint import checkpoint

from flax_impl.adapters.dropout import Layers, share_linen
from flax_impl.adapters.from_equinox import FromEquinox, Template
from flax_impl.adapters.from_nnx import FromNNX
from flax_impl.randomness import step_key
from lightning_impl import randomness as torch_randomness
from lightning_impl.layer_keys import LayerKeys
from pipeline.config.experiment import Config
from pipeline.config.train import Randomness, TrainConfig
from pipeline.errors import UserError

CONFIG = Config(seed=3, train=TrainConfig(randomness=Randomness.shared))
RATE = 0.4


class TorchNet(torch.nn.Module):
    def __init__(self, repeats=False):
        super().__init__()
        self.drop, self.other, self.repeats = (
            torch.nn.Dropout(RATE),
            torch.nn.Dropout(RATE),
            repeats,
        )

    def forward(self, x):
        if self.repeats:
            return checkpoint(lambda x: self.drop(self.drop(x)) ** 2, x, use_reentrant=False)
        return self.other(self.drop(self.drop(x)))


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x, train):
        drop = linen.Dropout(RATE, deterministic=not train, name="drop")
        return linen.Dropout(RATE, name="other")(drop(drop(x)), deterministic=not train)


class NNXNet(nnx.Module):
    def __init__(self, rngs):
        self.drop, self.other = (nnx.Dropout(RATE, rngs=rngs) for _ in range(2))

    def __call__(self, x):
        return self.other(self.drop(self.drop(x)))


class EquinoxNet(eqx.Module):
    drop: eqx.nn.Dropout
    other: eqx.nn.Dropout

    def __call__(self, x, *, key):
        return self.other(self.drop(self.drop(x, key=key), key=key), key=key)


def jax_models():
    made = EquinoxNet(eqx.nn.Dropout(RATE), eqx.nn.Dropout(RATE))
    return {
        "linen": LinenNet(),
        "nnx": FromNNX(np.dtype(np.float32), lambda key: NNXNet(nnx.Rngs(key))),
        "equinox": FromEquinox(np.dtype(np.float32), lambda key: made, Template(made)),
    }


def in_torch(x, step, model=None):
    model = model or TorchNet()
    LayerKeys(model).use(torch_randomness.step_key(CONFIG, step))
    return model(torch.from_numpy(x)).detach().numpy()


def in_jax(name, x, step, train=True):
    model, key = jax_models()[name], step_key(CONFIG, step)
    with linen.intercept_methods(partial(share_linen, Layers(key, is_last=True))):
        return np.asarray(model.apply({}, x, train=train, rngs={"dropout": key}))


@pytest.mark.parametrize("name", ["linen", "nnx", "equinox"])
@pytest.mark.parametrize("shape", [(64, 10), (2, 6, 5, 3)], ids=["features", "images"])
def test_all_libraries_draw_the_masks_of_torch_at_every_call_of_a_layer(name, shape):
    x = np.ones(shape, np.float32)
    first_axes = x.transpose(0, 3, 1, 2) if x.ndim == 4 else x
    outputs = []
    for step in (0, 1):
        expected = in_torch(first_axes.copy(), step)
        expected = expected.transpose(0, 2, 3, 1) if x.ndim == 4 else expected
        found = in_jax(name, x, step)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        outputs.append(found)
    assert (outputs[0] != outputs[1]).any()
    kept = np.mean(outputs[0] != 0)
    assert abs(kept - (1 - RATE) ** 3) < 0.1  # of three masks: no two of them are the same
    np.testing.assert_array_equal(in_jax(name, x, 0, train=False), x)


def test_a_call_of_torch_that_a_checkpoint_repeats_has_its_mask_or_is_refused():
    x = torch.ones(64, 10, requires_grad=True)
    model = TorchNet()
    LayerKeys(model).use(torch_randomness.step_key(CONFIG, 0))
    output = checkpoint(lambda x: model.drop(x) ** 2, x, use_reentrant=False)
    output.sum().backward()
    np.testing.assert_allclose((x.grad / 2).numpy(), output.detach().numpy(), rtol=1e-6)
    twice = TorchNet(repeats=True)
    LayerKeys(twice).use(torch_randomness.step_key(CONFIG, 0))
    with pytest.raises(
        UserError, match="drop is called 2 times in what a checkpoint computes again"
    ):
        twice(x).sum().backward()


def test_layers_of_torch_that_are_replaced_between_steps_have_the_masks_of_their_names():
    x, model = torch.ones(64, 10), TorchNet()
    keys = LayerKeys(model)

    def masks(step, keys):
        keys.use(torch_randomness.step_key(CONFIG, step))
        return model(x)

    first = masks(0, keys)
    model.drop = torch.nn.Dropout(RATE)
    assert torch.equal(masks(0, keys), first)
    model.drop = torch.nn.Identity()
    assert torch.equal(masks(1, keys), masks(1, LayerKeys(model)))
    model.drop = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Dropout(RATE))
    found = masks(1, keys)
    assert model.drop[1].path == "drop.1"
    model.drop[0] = torch.nn.Dropout(RATE)
    assert torch.equal(masks(1, keys), masks(1, LayerKeys(model)))
    assert not torch.equal(masks(1, keys), found)


def test_without_a_key_of_the_step_torch_draws_its_own():
    model = TorchNet()
    LayerKeys(model).use(torch_randomness.step_key(CONFIG, 0), names_masks=False)
    assert type(model.drop) is torch.nn.Dropout
    torch.manual_seed(0)
    first = model(torch.ones(64, 10))
    assert (first != model(torch.ones(64, 10))).any()
