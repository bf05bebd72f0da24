"""The two sides are the same: the models in outputs, gradients and optimizer steps, and the losses."""

import jax.numpy as jnp
import numpy as np
import torch

import in_jax
import in_torch
from tandem import assert_same


def test_the_two_models_are_the_same() -> None:
    options = {"input_shape": [2], "outputs": 2}
    assert_same(in_torch.Net, in_jax.Net, options=options, inputs="x=float32[16,2]")


def test_the_two_losses_are_the_same() -> None:
    random = np.random.default_rng(0)
    outputs, label = random.standard_normal((16, 2)).astype(np.float32), random.integers(0, 2, 16)
    left = in_torch.loss(torch.tensor(outputs), {"label": torch.tensor(label)})
    right = in_jax.loss(jnp.array(outputs), {"label": jnp.array(label)})
    for name, values in left.items():
        np.testing.assert_allclose(values, right[name], rtol=1e-5)
