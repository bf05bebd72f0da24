"""The pairs whose verdicts `benchmarks.verify_pairs.speed` times."""

from importlib import import_module

import jax
import jax.numpy as jnp
import pytest

from benchmarks.verify_pairs import speed
from pipeline.verify.arguments import parse_arguments


def made(name):
    module, attribute = name.split(":")
    return getattr(import_module(module), attribute)()


@pytest.mark.parametrize("pair", speed.SIZES)
def test_the_command_names_two_models_with_as_many_parameters(pair):
    arguments = parse_arguments(speed.command(pair)[2:])
    torch_side, flax_side = made(arguments.left), made(arguments.right)
    size = speed.SIZES[pair]
    assert arguments.inputs == (f"x=float32[2,3,{size},{size}] NCHW",)
    shapes = jax.eval_shape(flax_side.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))
    found = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    assert found == sum(p.numel() for p in torch_side.parameters())
    assert found > 5e6  # ViT-tiny, ResNet-18
