"""Models of the two backends agree with each other: names, kinds, outputs, gradients, statistics and masks.

Each array is compared on its own scale: the largest difference over the largest number.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from asserts import assert_arrays_close, gap
from gradients import weights
from model_twins import CASES, CLASSES, DROPPED, SLOW, Twins
from torch import nn

from flax_impl import randomness as flax_randomness
from flax_impl.layers import layer_kinds as flax_kinds
from flax_impl.state import shapes_of
from lightning_impl import randomness as torch_randomness
from lightning_impl.layer_keys import LayerKeys
from lightning_impl.layers import layer_kinds as torch_kinds
from lightning_impl.models import attention as torch_attention
from lightning_impl.state import buffers_of, parameters_of
from lightning_impl.state import shapes_of as torch_shapes

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize(
    ("name", "train"),
    [
        *(
            pytest.param(
                name,
                True,
                id=f"{name}-training",
                marks=[pytest.mark.slow] * (name in SLOW),
            )
            for name in CASES
        ),
        # Transformers do the same in both, and there is one way to evaluate a norm.
        *(
            pytest.param(
                name,
                False,
                id=f"{name}-evaluating",
                marks=[pytest.mark.slow] * (name != "resnet18"),
            )
            for name in CASES
        ),
    ],
)
def test_names_kinds_outputs_gradients_and_statistics_are_the_same(name, train):
    twins = Twins(CASES[name])
    assert shapes_of(twins.layout) == torch_shapes(twins.torch)
    assert flax_kinds(twins.layout) == torch_kinds(twins.torch)
    before = buffers_of(twins.torch)
    found = twins.with_flax(train)
    assert_arrays_close(found, twins.with_torch(train))
    assert all(train == (gap(found[buffer], before[buffer]) > 1e-3) for buffer in before)


@pytest.mark.parametrize(
    "step",
    [pytest.param((0, 0), marks=pytest.mark.slow), (7, 1)],
    ids=["first step", "second part of a later step"],
)
@pytest.mark.parametrize("name", DROPPED)
def test_with_shared_masks_outputs_and_gradients_are_the_same(configure, name, step):
    config, twins = configure("train.randomness=shared seed=4"), Twins(DROPPED[name])
    torch_masks, flax_masks = {}, {}

    def note(name: str, module: nn.Module, inputs: tuple, outputs: torch.Tensor) -> None:
        torch_masks[name] = ((outputs == 0) & (inputs[0] != 0)).numpy()

    def tell(call: Callable, args: tuple, kwargs: dict, context: linen.module.InterceptorContext):
        outputs = call(*args, **kwargs)
        if isinstance(context.module, flax_randomness.Dropout):
            name = ".".join(context.module.path)
            dropped = (outputs == 0) & (args[0] != 0)
            jax.debug.callback(partial(flax_masks.__setitem__, name), dropped)
        return outputs

    for path, module in twins.torch.named_modules():
        if isinstance(module, torch_randomness.Dropout):
            module.register_forward_hook(partial(note, path))
    expected = twins.with_torch(True, torch_randomness.step_key(config, *step))
    with linen.intercept_methods(tell):
        found = twins.with_flax(True, flax_randomness.step_key(config, *step))
        jax.effects_barrier()
    fused = set(flax_masks) - set(torch_masks)  # torch asks no module for what it does not drop
    assert {path.rpartition(".")[2] for path in fused} <= {"attn_drop"}
    assert not any(flax_masks[path].any() for path in fused)
    for path, mask in torch_masks.items():
        np.testing.assert_array_equal(flax_masks[path], mask)
    dropping = {path for path, mask in torch_masks.items() if mask.any()}
    if name != "vit":
        assert dropping == torch_masks.keys()
    else:  # in the first of two blocks no sample skips a layer, in the last as many as was asked for
        assert dropping.isdisjoint({"blocks.0.drop_path1", "blocks.0.drop_path2"})
        assert twins.torch.blocks[1].drop_path2.rate == 0.5
        assert dropping >= {"pos_drop"} | {
            f"blocks.{block}.{layer}"
            for block in (0, 1)
            for layer in ("attn.proj_drop", "mlp.drop1", "mlp.drop2")
        }
    assert_arrays_close(found, expected)


@pytest.mark.parametrize("name", ["vit", pytest.param("gpt", marks=pytest.mark.slow)])
def test_native_masks_are_applied_in_training_only(configure, name):
    config, twins = configure("train.randomness=native"), Twins(DROPPED[name])
    plain, key = twins.with_torch(False)["outputs"], torch_randomness.step_key
    first, second, again = (
        twins.with_torch(True, key(config, step))["outputs"] for step in (0, 1, 0)
    )
    assert gap(first, plain) > 1e-2 < gap(second, first)
    np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(twins.with_torch(False)["outputs"], plain)
    assert gap(twins.outputs_with_flax(False), plain) < 1e-12
    key = flax_randomness.step_key
    first, second = (twins.outputs_with_flax(True, key(config, step)) for step in (0, 1))
    assert gap(first, plain) > 1e-2 < gap(second, first)


def test_dropout_on_attention_alone_works_with_either_generator(configure):
    model = torch_attention.Attention(8, 2, ("a", "b", "c", "d"), (0.5, 0.0)).double()
    x = torch.tensor(np.random.default_rng(0).normal(size=(2, 6, 8)))
    plain = model.eval()(x).detach().numpy()
    for generator in ("native", "shared"):
        config = configure(f"train.randomness={generator}")
        outputs = []
        for step in (0, 0, 1):
            LayerKeys(model).use(torch_randomness.step_key(config, step))
            outputs.append(model.train()(x).detach().numpy())
        np.testing.assert_array_equal(outputs[0], outputs[1])
        assert gap(outputs[0], plain) > 1e-2 < gap(outputs[2], outputs[0])
        np.testing.assert_array_equal(model.eval()(x).detach().numpy(), plain)


# The last two are of the layers of gpt.
BF16 = [
    *("resnet18", "vit", "gpt", "unet"),
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("bert", "encoder_decoder")),
]


@pytest.mark.parametrize("name", BF16)
def test_bf16_outputs_are_close_to_float64_and_gradients_are_float32(name):
    twins = Twins(CASES[name])
    exact = twins.with_torch(False)["outputs"]
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        x = twins.in_torch(torch.tensor(twins.x))
        x = x.float() if twins.smooth else x
        found = twins.torch.float()(x, *map(torch.tensor, twins.others))
    found = found.movedim(1, -1) if found.ndim == 4 else found
    assert found.dtype == torch.bfloat16
    assert gap(found.double().numpy(), exact) < 0.03
    model = twins.flax.clone(dtype=jnp.bfloat16, param_dtype=jnp.float32)
    variables = {"params": twins.params, "batch_stats": twins.stats}
    variables = jax.tree.map(partial(jnp.asarray, dtype=jnp.float32), variables)
    x = jnp.asarray(twins.x, jnp.float32 if twins.smooth else jnp.int32)
    found = jax.jit(model.apply)(variables, x, *twins.others)
    assert found.dtype == jnp.bfloat16
    assert gap(np.asarray(found, float), exact) < 0.03
    by = jax.eval_shape(
        jax.grad(lambda v: model.apply(v, x, *twins.others).astype(float).sum()), variables
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(by)} == {jnp.float32.dtype}


@pytest.mark.parametrize("train", [True, False], ids=["with dropout", "without"])
def test_gpt_does_not_see_later_tokens(configure, train):
    twins, config = Twins(DROPPED["gpt"]), configure("train.randomness=shared")
    keys = torch_randomness.step_key(config, 0), flax_randomness.step_key(config, 0)

    def outputs() -> tuple[np.ndarray, np.ndarray]:
        by_torch = twins.with_torch(train, keys[0])["outputs"]
        return by_torch, twins.outputs_with_flax(train, keys[1])

    before = outputs()
    twins.x[:, 4] = (twins.x[:, 4] + 1) % CLASSES
    for old, new in zip(before, outputs(), strict=True):
        np.testing.assert_array_equal(new[:, :4], old[:, :4])
        assert (new[:, 4:] != old[:, 4:]).any(-1).all()


def test_tied_token_embeddings_get_gradients_as_input_and_as_output():
    twins = Twins(CASES["gpt"])
    twins.x[twins.x == 4] = 0  # so that token 4 is only ever predicted
    assert "lm_head.weight" not in parameters_of(twins.torch)
    by_table = twins.with_flax(True)["by wte.weight"]
    table = twins.torch.wte.weight

    def loss() -> float:
        outputs = twins.torch(torch.tensor(twins.x))
        return (outputs * torch.tensor(weights(outputs.shape))).sum().item()

    with torch.no_grad():
        for row, column in ((0, 3), (4, 5)):
            values = []
            for change in (1e-5, -2e-5, 1e-5):
                table[row, column] += change
                values.append(loss())
            slope = (values[0] - values[1]) / 2e-5
            assert slope == pytest.approx(by_table[row, column], rel=1e-6)
            assert abs(slope) > 1e-2
