"""`model.attention`: kernels that keep less in memory and give the same numbers; those that are not there."""

from dataclasses import replace
from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from asserts import assert_arrays_close
from jax.extend.random import threefry_2x32
from model_twins import CASES, DROPPED, Twins
from torch.nn.attention import SDPBackend, sdpa_kernel

from flax_impl.models import attention, long_attention
from flax_impl.models.attention import LONG, _fused, _mix, _problem_of_cudnn, attend, choose_kernel
from flax_impl.randomness import Dropout, _draw_rows, draw_mask
from lightning_impl import randomness
from pipeline.config.models import AttentionKernel, GPTConfig, LinearConfig, ViTConfig
from pipeline.config.train import Precision
from pipeline.errors import UserError
from pipeline.run.recording.kernels import forget_kernels, noted_kernels

KERNELS = [kernel for kernel in AttentionKernel if kernel is not AttentionKernel.auto]


def twins(case, kernel):
    """A model on both sides; in Flax with a kernel that a CPU has."""
    in_flax = AttentionKernel.auto if kernel is AttentionKernel.fused else kernel
    made = Twins(replace(case, config=replace(case.config, attention=in_flax)))
    layers = [module for module in made.torch.modules() if hasattr(module, "kernel")]
    assert layers
    for layer in layers:
        layer.kernel = kernel
    return made


def noted(call, *arguments):
    """The kernels that a call notes."""
    forget_kernels()
    call(*arguments)
    return noted_kernels()


def gpu(precision="bf16", capability="9.0", kind="gpu"):
    """A device, as far as the choice of a kernel looks at it."""
    chip = SimpleNamespace(compute_capability=capability)
    mesh = SimpleNamespace(devices=np.array([chip], dtype=object))
    return SimpleNamespace(kind=kind, precision=Precision[precision], mesh=mesh)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["gpt", "encoder_decoder"])
def test_every_kernel_has_the_same_outputs_and_gradients(name):
    forget_kernels()
    expected = twins(CASES[name], AttentionKernel.written_out).with_flax(True)
    assert noted_kernels() == "written_out"
    recomputed = twins(CASES[name], AttentionKernel.recomputed).with_flax(True)
    assert noted_kernels() == "recomputed and written_out"
    assert_arrays_close(recomputed, expected)
    for kernel in KERNELS:
        forget_kernels()
        assert_arrays_close(twins(CASES[name], kernel).with_torch(True), expected)
        fused = kernel is AttentionKernel.fused  # by torch's kernel for a CPU
        assert noted_kernels() == ("flash" if fused else kernel.name)


def test_what_torch_chooses_is_noted_in_training_alone(configure):
    plain, dropped = (twins(case["gpt"], AttentionKernel.auto) for case in (CASES, DROPPED))
    key = randomness.step_key(configure("train.randomness=shared"), 0)
    assert noted(plain.with_torch, True) == "flash"
    assert noted(dropped.with_torch, True) == "math"  # torch has no other with dropout for a CPU
    assert noted(dropped.with_torch, True, key) == "written_out"
    assert noted(dropped.with_torch, False) == ""
    with sdpa_kernel(SDPBackend.MATH):
        assert noted(plain.with_torch, True) == "math"


def test_torch_has_no_fused_kernel_for_shared_masks_or_for_dropout_on_a_cpu(configure):
    model = twins(DROPPED["gpt"], AttentionKernel.fused)
    key = randomness.step_key(configure("train.randomness=shared"), 0)
    with pytest.raises(UserError, match=r"attention=fused: no fused kernel: none draws the masks"):
        model.with_torch(True, key)
    reason = r"torch has none for torch.float64 on cpu, heads of 4, dropout 0\.3.*attention=auto"
    with pytest.raises(UserError, match=reason):
        model.with_torch(True)


def test_the_softmax_is_not_kept_where_it_is_recomputed():
    kept = []
    for kernel in (AttentionKernel.written_out, AttentionKernel.recomputed):
        model = twins(CASES["gpt"], kernel).torch
        shapes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, shapes=shapes: shapes.append(t.shape) or t, lambda t: t
        ):
            model(torch.zeros(3, 6, dtype=torch.int64))
        kept.append(sum(shape == (3, 2, 6, 6) for shape in shapes))
    assert kept[0] >= 2 > kept[1] == 0


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (gpu(), "auto"),
        (gpu("fp32"), "auto"),
        (gpu("fp64"), "written_out"),
        (gpu(capability="7.5"), "recomputed"),
        (gpu(capability="gfx942"), "recomputed"),
        (gpu(kind="cpu"), "written_out"),
    ],
)
def test_jax_chooses_a_kernel_for_the_device(device, expected):
    chosen = choose_kernel(GPTConfig(), (LONG - 1,), device, is_traced=False)
    assert chosen.attention is AttentionKernel[expected]
    by_parts = "recomputed" if expected == "written_out" else expected
    for config, shape in [(GPTConfig(), (LONG,)), (ViTConfig(patch=2), (64, 32, 3))]:
        chosen = choose_kernel(config, shape, device, is_traced=False)
        assert chosen.attention is AttentionKernel[by_parts]
        chosen = choose_kernel(config, shape, device, is_traced=True)
        assert chosen.attention is AttentionKernel.written_out
    assert choose_kernel(LinearConfig(), (LONG,), device, False) == LinearConfig()


def test_jax_says_why_it_has_no_fused_kernel():
    fused = GPTConfig(attention=AttentionKernel.fused)
    assert choose_kernel(fused, (8,), gpu(), False).attention is AttentionKernel.fused
    for device in (gpu(kind="cpu"), gpu(capability="7.5")):
        with pytest.raises(UserError, match=r"NVIDIA GPUs of compute capability 8\.0.*recomputed"):
            choose_kernel(fused, (8,), device, False)
    for width, dtype, rate, problem in [
        (64, jnp.bfloat16, 0.0, ""),
        (64, jnp.float32, 0.0, "train.precision=bf16, not float32"),
        (64, jnp.bfloat16, 0.1, "no dropout, and that of the attention is 0.1"),
        (20, jnp.bfloat16, 0.0, "up to 128 by eights, not of 20"),
        (136, jnp.bfloat16, 0.0, "up to 128 by eights, not of 136"),
    ]:
        found = _problem_of_cudnn(jnp.zeros((1, 1, 2, width), dtype), rate)
        assert found.endswith(problem)
        assert bool(found) == bool(problem)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("length", [6, 7])
def test_odd_lengths_are_filled_up_for_cudnn_without_an_effect(monkeypatch, causal, masks, length):
    kernel = jax.nn.dot_product_attention

    def on_cpu(*args, implementation, **options):
        assert implementation == "cudnn"
        assert all(x.shape[1] % 2 == 0 for x in args)
        return kernel(*args, **options, implementation="xla")

    monkeypatch.setattr(jax.nn, "dot_product_attention", on_cpu)
    keys = jax.random.split(jax.random.key(0), 3)
    heads = [jax.random.normal(key, (3, 2, length, 8)) for key in keys]
    seen = jnp.arange(length)[None, None, None] < jnp.array([3, 5, 6])[:, None, None, None]
    seen = seen if masks and not causal else None

    def gradients(mix):
        return jax.jit(jax.grad(lambda heads: (mix(*heads, causal, seen) ** 2).sum()))(heads)

    wanted = gradients(lambda *args: attend(*args, lambda weights: weights))
    for found, expected in zip(gradients(_fused), wanted, strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-5)


class Mixed(nn.Module):
    """Attention with dropout, without its layers; `seen` may be none."""

    kernel: AttentionKernel
    causal: bool

    @nn.compact
    def __call__(self, query, key, value, seen):
        drop = Dropout(0.3, name="drop")
        return _mix(self.kernel, query, key, value, self.causal, seen, drop, True)


def gradients_of(kernel, causal, generator="threefry2x32"):
    """A function of query, key, value and what is seen, with gradients to the first three, compiled."""
    rngs = {"dropout": jax.random.key(3, impl=generator)}
    module = Mixed(AttentionKernel[kernel], causal)
    return jax.jit(
        jax.grad(lambda *args: (module.apply({}, *args, rngs=rngs) ** 2).sum(), (0, 1, 2))
    )


@pytest.mark.usefixtures("float64")
# Of 19, the last part is not full.
@pytest.mark.parametrize(
    ("masks", "length"), [("causal", 16), ("causal", 19), ("seen", 19), ("none", 19)]
)
def test_long_sequences_by_parts_have_the_same_masks_and_gradients(monkeypatch, masks, length):
    heads = [jax.random.normal(jax.random.key(i), (2, 3, length, 4)) for i in range(3)]
    seen = jnp.arange(length) < jnp.array([length - 3, length])[:, None, None, None]
    heads.append(seen if masks == "seen" else None)
    expected = gradients_of("written_out", masks == "causal")(*heads)
    monkeypatch.setattr(attention, "LONG", 16)
    monkeypatch.setattr(long_attention, "PART", 8)
    traced = gradients_of("recomputed", masks == "causal").trace(*heads)
    assert "scan" in str(traced.jaxpr)
    assert f"{length},{length}]" not in str(traced.jaxpr)
    found = traced.lower().compile()(*heads)
    assert all(np.abs(array).max() > 0.1 for array in expected)
    for array, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(array, wanted, atol=1e-13)


@pytest.mark.parametrize("generator", ["threefry2x32", "rbg"])
def test_memory_of_attention_grows_with_the_length_and_not_with_its_square(generator):
    def temporary(length):
        heads = [jax.ShapeDtypeStruct((1, 1, length, 8), jnp.float32)] * 3
        call = gradients_of("recomputed", True, generator).lower(*heads, None)
        return call.compile().memory_analysis().temp_size_in_bytes

    short, long = temporary(2 * LONG), temporary(8 * LONG)
    assert long < 4.5 * short
    assert long < (8 * LONG) ** 2  # a quarter of one softmax


def test_rows_of_a_shared_mask_are_those_of_the_whole_for_counters_of_64_bits():
    key = jax.random.key(3, impl="threefry2x32")
    whole = draw_mask(key, "drop", 0.4, (2, 3, 19, 7))
    rows = draw_mask(key, "drop", 0.4, (2, 3, 5, 7), (jnp.array(11), 19))
    np.testing.assert_array_equal(rows, whole[:, :, 11:16])
    width, total, first = 5, 2**31 - 1, 2**31 - 4  # the last number has the counter 1.07e10
    found = _draw_rows(key, (1, 3, width), (jnp.array(first), total))
    counters = [(first + row) * width + column for row in range(3) for column in range(width)]
    halves = [counter >> 32 for counter in counters] + [counter % 2**32 for counter in counters]
    words = threefry_2x32(jax.random.key_data(key), jnp.array(halves, jnp.uint32))
    np.testing.assert_array_equal(found.ravel(), words[: 3 * width] ^ words[3 * width :])
    assert len({counter >> 32 for counter in counters}) == 1 < counters[0] >> 32
