"""Rows L1 to L34 of the table of layers: where the defaults of the frameworks differ.

Each row is a layer as our models build it, for which torch and Flax agree in float64 to 1e-12, in outputs
and gradients. Rows about activations, pools with ties, flattening and initial weights are in
test_layers_and_losses.py and test_state.py, those about dropout in test_randomness.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from asserts import assert_gradients_close
from flax import linen
from gradients import (
    assert_twins,
    channels_first,
    channels_last,
    gradients_with_jax,
    randomised,
    with_jax,
    with_torch,
)
from torch import nn
from torch.func import functional_call

from flax_impl.norms import BatchNorm as FlaxBatchNorm
from flax_impl.norms import LayerNorm as FlaxLayerNorm
from lightning_impl.norms import BatchNorm as TorchBatchNorm
from lightning_impl.norms import LayerNorm as TorchLayerNorm
from pipeline.config.models import Activation

pytestmark = pytest.mark.usefixtures("float64")
RANDOM = np.random.default_rng(0)
IMAGES, SMALL = (2, 7, 6, 4), 0.01  # numbers so small that an epsilon is seen


def spatial(layer, x):
    """Apply a torch layer to `[batch, …, channels]`."""
    return channels_last(layer(channels_first(x)))


def scaled(shape):
    """Inputs of samples that are ever smaller; an epsilon is seen in the last."""
    factors = np.linspace(1, SMALL, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    return RANDOM.normal(size=shape) * factors


def conv(features, kernel, rank=2, **options):
    return linen.Conv(features, (kernel,) * rank, param_dtype=float, **options)


def conv_transpose(features, kernel, padding=0, stride=1, extra=0, dilation=1):
    """Flax's transposed convolution with the meaning of padding in torch."""
    edge = dilation * (kernel - 1) - padding
    return linen.ConvTranspose(
        features,
        (kernel, kernel),
        strides=(stride, stride),
        padding=((edge, edge + extra),) * 2,
        kernel_dilation=(dilation, dilation),
        transpose_kernel=True,
        param_dtype=float,
    )


def attention(heads, **options):
    return linen.MultiHeadDotProductAttention(heads, param_dtype=float, **options)


def self_attention(layer, x, **options):
    return layer(x, x, x, need_weights=False, **options)[0]


NORM = {"param_dtype": float, "use_fast_variance": False}
# Row by row: torch's layer, Flax's, and the shape of the inputs (channels last).
NORMS = {
    "L8 LayerNorm of ours": (TorchLayerNorm(4), FlaxLayerNorm(param_dtype=float)),
    "L8 LayerNorm of ours, epsilon 1e-3": (
        TorchLayerNorm(4, eps=1e-3),
        FlaxLayerNorm(epsilon=1e-3, param_dtype=float),
    ),
    "L8 LayerNorm": (nn.LayerNorm(4), linen.LayerNorm(epsilon=1e-5, **NORM)),
    "L9 RMSNorm": (nn.RMSNorm(4, eps=1e-6), linen.RMSNorm(epsilon=1e-6, **NORM)),
}
CHANNEL_NORMS = {
    "L8 InstanceNorm": (
        nn.InstanceNorm2d(4, affine=True),
        linen.InstanceNorm(epsilon=1e-5, **NORM),
    ),
    "L10 InstanceNorm without affine": (
        nn.InstanceNorm2d(4),
        linen.InstanceNorm(epsilon=1e-5, use_scale=False, use_bias=False, **NORM),
    ),
    "L11 GroupNorm of 2 groups": (
        nn.GroupNorm(2, 4),
        linen.GroupNorm(num_groups=2, epsilon=1e-5, **NORM),
    ),
    "L11 GroupNorm of one channel each": (
        nn.GroupNorm(4, 4),
        linen.GroupNorm(num_groups=4, epsilon=1e-5, **NORM),
    ),
    "L12 LayerNorm over channels, rows and columns": (
        nn.GroupNorm(1, 4),  # torch's LayerNorm of (C, H, W) has a weight for each element
        linen.LayerNorm(reduction_axes=(1, 2, 3), epsilon=1e-5, **NORM),
    ),
}
CONVS = {
    **{
        f"L14 {size}×{size} convolution padded {padding}, stride {stride}": (
            nn.Conv2d(4, 3, size, stride, padding),
            conv(3, size, strides=stride, padding=padding),
            IMAGES,
        )
        for size, padding, stride in (
            *((1, 0, 1), (2, 1, 1), (3, 1, 1), (5, 2, 1), (5, 0, 1)),
            *((1, 0, 2), (2, 0, 2), (3, 1, 2), (4, 1, 2), (7, 3, 2), (3, 2, 3)),
        )
    },
    "L14 padded unevenly": (
        nn.Conv2d(4, 3, 3, padding=(0, 2)),
        conv(3, 3, padding=((0, 0), (2, 2))),
        IMAGES,
    ),
    "L15 without bias": (
        nn.Conv2d(4, 3, 3, bias=False),
        conv(3, 3, padding=0, use_bias=False),
        IMAGES,
    ),
    "L15 in 2 groups": (
        nn.Conv2d(4, 6, 3, padding=1, groups=2),
        conv(6, 3, padding=1, feature_group_count=2),
        IMAGES,
    ),
    "L15 each channel apart": (
        nn.Conv2d(4, 8, 3, padding=1, groups=4),
        conv(8, 3, padding=1, feature_group_count=4),
        IMAGES,
    ),
    "L15 dilated": (
        nn.Conv2d(4, 3, 3, padding=2, dilation=2),
        conv(3, 3, padding=2, kernel_dilation=2),
        IMAGES,
    ),
    "L15 in one dimension": (
        nn.Conv1d(4, 3, 3, padding=1, stride=2),
        conv(3, 3, 1, padding=1, strides=2),
        (2, 9, 4),
    ),
    "L15 in three": (
        nn.Conv3d(2, 3, 2, padding=1),
        conv(3, 2, 3, padding=1),
        (2, 3, 4, 5, 2),
    ),
    **{
        f"L18 transposed: {options}": (
            nn.ConvTranspose2d(
                4,
                3,
                options["kernel"],
                options.get("stride", 1),
                options.get("padding", 0),
                options.get("extra", 0),
                dilation=options.get("dilation", 1),
            ),
            conv_transpose(3, **options),
            IMAGES,
        )
        for options in (
            {"kernel": 3},
            {"kernel": 2, "stride": 2},
            {"kernel": 3, "padding": 1},
            {"kernel": 4, "padding": 1, "stride": 2},
            {"kernel": 3, "padding": 1, "stride": 2, "extra": 1},
            {"kernel": 3, "padding": 2, "stride": 3, "dilation": 2, "extra": 2},
            {"kernel": 2, "padding": 1, "stride": 1},
        )
    },
}
DENSE = {
    "L16 dense": (nn.Linear(5, 3), linen.Dense(3, param_dtype=float), (2, 5)),
    "L16 dense without bias, on sequences": (
        nn.Linear(5, 3, bias=False),
        linen.Dense(3, use_bias=False, param_dtype=float),
        (2, 4, 5),
    ),
}


@pytest.mark.parametrize("row", NORMS)
def test_a_norm_over_the_last_axis_matches_torch(row):
    torch_layer, flax_layer = NORMS[row]
    assert_twins(randomised(torch_layer), flax_layer, scaled(IMAGES))


@pytest.mark.parametrize("row", DENSE)
def test_a_dense_layer_matches_torch(row):
    torch_layer, flax_layer, shape = DENSE[row]
    assert_twins(randomised(torch_layer), flax_layer, RANDOM.normal(size=shape))


@pytest.mark.parametrize("row", CHANNEL_NORMS)
def test_a_norm_over_channels_matches_torch(row):
    torch_layer, flax_layer = CHANNEL_NORMS[row]
    assert_twins(randomised(torch_layer), flax_layer, scaled(IMAGES), spatial)


@pytest.mark.parametrize("row", CONVS)
def test_a_convolution_matches_torch(row):
    torch_layer, flax_layer, shape = CONVS[row]
    assert_twins(randomised(torch_layer), flax_layer, RANDOM.normal(size=shape), spatial)


def test_L26_an_embedding_matches_torch_and_adds_up_gradients_of_repeated_tokens():
    tokens = np.array([[3, 0, 3, 1], [3, 5, 5, 0]])
    assert_twins(randomised(nn.Embedding(7, 4)), linen.Embed(7, 4, param_dtype=float), tokens)


STATISTICS = {"mean": np.zeros(4), "var": np.ones(4)}


@pytest.mark.parametrize(
    ("momentum", "epsilon", "scale"), [(0.1, 1e-5, 1), (0.5, 1e-5, SMALL), (0.1, 1e-3, SMALL)]
)
def test_L1_L2_batch_norm_matches_torch_in_training_and_evaluation(momentum, epsilon, scale):
    torch_layer = randomised(TorchBatchNorm(4, eps=epsilon, momentum=momentum))
    flax_layer = FlaxBatchNorm(momentum, epsilon, param_dtype=float)
    arrays = [parameter.detach().numpy().copy() for parameter in torch_layer.parameters()]
    stats = STATISTICS

    def ours(x, scale, bias):
        return spatial(
            lambda x: functional_call(torch_layer, {"weight": scale, "bias": bias}, x), x
        )

    def theirs(x, scale, bias, train):
        variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": stats}
        return flax_layer.apply(variables, x, train=train, mutable=["batch_stats"])

    # Outputs in training do not depend on the statistics so far.
    in_training = gradients_with_jax(lambda *arrays: theirs(*arrays, train=True)[0], 3)
    for _ in range(4):
        x = RANDOM.normal(loc=3, size=IMAGES) * scale
        assert_gradients_close(in_training(x, *arrays), with_torch(ours, x, *arrays))
        stats = theirs(x, *arrays, train=True)[1]["batch_stats"]
    running = [stats["mean"], stats["var"]]
    np.testing.assert_allclose(running[0], torch_layer.running_mean, rtol=1e-12)
    np.testing.assert_allclose(running[1], torch_layer.running_var, rtol=1e-12)

    torch_layer.eval()
    found = with_jax(lambda *arrays: theirs(*arrays, train=False)[0], x, *arrays)
    assert_gradients_close(found, with_torch(ours, x, *arrays))
    after = theirs(x, *arrays, train=False)[1]["batch_stats"]
    np.testing.assert_array_equal([after["mean"], after["var"]], running)


def test_L3_outputs_use_the_biased_and_running_statistics_the_unbiased_variance():
    x = RANDOM.normal(size=(3, 2, 1, 4))
    params = {"scale": np.ones(4), "bias": np.zeros(4)}
    variables = {"params": params, "batch_stats": STATISTICS}
    layer = FlaxBatchNorm(param_dtype=float)
    y, changed = layer.apply(variables, x, train=True, mutable=["batch_stats"])
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-5), rtol=1e-12)
    unbiased = 0.9 + 0.1 * x.var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(changed["batch_stats"]["var"], unbiased, rtol=1e-12)
    np.testing.assert_allclose(changed["batch_stats"]["mean"], 0.1 * mean, rtol=1e-12)


FAR = 100 + RANDOM.normal(size=(64, 5, 5, 4)) * 0.01  # far from zero, where E[x²] - E[x]² cancels
STEADY = {
    "BatchNorm of ours": (FlaxBatchNorm(), (0, 1, 2), {"train": True, "mutable": ["batch_stats"]}),
    "LayerNorm of ours": (FlaxLayerNorm(), (3,), {}),
    "LayerNorm": (linen.LayerNorm(epsilon=1e-5, use_fast_variance=False), (3,), {}),
    "GroupNorm": (linen.GroupNorm(1, epsilon=1e-5, use_fast_variance=False), (1, 2, 3), {}),
}


@pytest.mark.parametrize("row", STEADY)
def test_L4_variances_are_computed_in_two_passes(row):
    layer, axes, options = STEADY[row]
    x = FAR.astype(np.float32)
    wide = x.astype(np.float64)
    mean, var = wide.mean(axes, keepdims=True), wide.var(axes, keepdims=True)
    y = layer.apply(layer.init(jax.random.key(0), x), x, **options)
    y = y[0] if options else y
    assert y.dtype == jnp.float32
    # The mean is rounded, to some 1e-4 of 0.01. In one pass the error is 5.4 (PARITY, L4).
    np.testing.assert_allclose(y, (wide - mean) / np.sqrt(var + 1e-5), atol=0.02)


def test_L6_batch_norm_refuses_to_train_on_one_value_per_channel():
    x = np.ones((1, 1, 1, 4))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        spatial(TorchBatchNorm(4).double(), torch.tensor(x))
    with pytest.raises(ValueError, match="more than one value per channel"):
        FlaxBatchNorm().init(jax.random.key(0), x, train=True)


def pools(size, stride, padding):
    """(torch, Flax) functions of average pooling, with and without padded zeros, and of max pooling."""
    window, strides, pads = (size, size), (stride, stride), ((padding, padding),) * 2
    for inside in (True, False):
        yield (
            lambda x, inside=inside: F.avg_pool2d(
                channels_first(x), size, stride, padding, count_include_pad=inside
            ),
            lambda x, inside=inside: linen.avg_pool(
                x, window, strides=strides, padding=pads, count_include_pad=inside
            ),
        )
    yield (
        lambda x: F.max_pool2d(channels_first(x), size, stride, padding),
        lambda x: linen.max_pool(x, window, strides=strides, padding=pads),
    )


@pytest.mark.parametrize(  # every two of a size, a stride and a padding
    ("size", "stride", "padding"),
    [(2, 1, 0), (2, 2, 1), (2, 3, 0), (3, 1, 1), (3, 2, 0), (3, 3, 1)],
)
def test_L19_L20_L21_a_pool_with_explicit_strides_and_padding_matches_torch(size, stride, padding):
    x = RANDOM.normal(size=IMAGES) - 2  # mostly below zero, so that zeros as padding would win
    for ours, theirs in pools(size, stride, padding):
        assert_gradients_close(
            with_jax(theirs, x), with_torch(lambda x, f=ours: channels_last(f(x)), x)
        )


def test_L21_a_mean_over_all_positions_matches_torch():
    x = RANDOM.normal(size=IMAGES)
    expected = with_torch(lambda x: F.adaptive_avg_pool2d(channels_first(x), 1).flatten(1), x)
    assert_gradients_close(with_jax(lambda x: x.mean((1, 2)), x), expected)


@pytest.mark.parametrize(("heads", "bias"), [(1, True), (2, True), (4, False)])
def test_L22_attention_has_torchs_one_matrix_for_query_key_and_value(heads, bias):
    torch_layer = randomised(nn.MultiheadAttention(8, heads, bias=bias, batch_first=True))
    x = RANDOM.normal(size=(2, 5, 8))
    assert_twins(torch_layer, attention(heads, use_bias=bias), x, self_attention)


@pytest.mark.parametrize("batch", [True, False], ids=["of each sample", "of all"])
def test_L23_a_mask_is_true_where_an_attention_layer_of_torch_has_false(batch):
    attends = np.tril(np.ones((5, 5), bool))  # L24: no row attends to nothing
    if batch:
        attends = attends & (RANDOM.random((2, 2, 5, 5)) < 0.5) | np.eye(5, dtype=bool)
    blocked = torch.tensor(~attends.reshape(-1, 5, 5) if batch else ~attends)
    torch_layer = randomised(nn.MultiheadAttention(8, 2, batch_first=True))
    assert_twins(
        torch_layer,
        attention(2),
        RANDOM.normal(size=(2, 5, 8)),
        lambda layer, x: self_attention(layer, x, attn_mask=blocked),
        lambda layer, x: layer(x, mask=attends),
    )
    query, key, value = RANDOM.normal(size=(3, 2, 2, 5, 4))  # [batch, heads, length, width]
    heads_last = (0, 2, 1, 3)
    found = with_jax(
        lambda *qkv: linen.dot_product_attention(
            *(x.transpose(heads_last) for x in qkv), mask=attends
        ).transpose(heads_last),
        query,
        key,
        value,
    )
    # The function, other than the layer, says True where it attends.
    mask = torch.tensor(attends)
    expected = with_torch(
        lambda *qkv: F.scaled_dot_product_attention(*qkv, attn_mask=mask), query, key, value
    )
    assert_gradients_close(found, expected)


SLOPES = {
    "L30 softplus": (F.softplus, linen.softplus),
    "L30 elu": (F.elu, linen.elu),
    "L30 silu": (F.silu, linen.silu),
    "L30 hardswish": (F.hardswish, linen.hard_swish),
    "L30 selu": (F.selu, linen.selu),
    "L30 leaky_relu": (F.leaky_relu, linen.leaky_relu),
    "L32 relu": (F.relu, linen.relu),
    "L32 relu6": (F.relu6, linen.relu6),
}
# Where the two have another slope, at a point (torch's leaky_relu has 0.01 at 0, Flax's 1) or all the
# way (torch's softplus is x above 20, and so 2e-9 off).
APART = {"L30 leaky_relu": [0.0], "L30 softplus": [20.5, 30.0]}


@pytest.mark.parametrize("row", SLOPES)
def test_an_activation_and_its_derivative_match_torch(row):
    ours, theirs = SLOPES[row]
    x = np.concatenate([RANDOM.uniform(-20, 20, 200), [0, 3, -3, 6, 1e-300, 20.5, 30]])
    x = x[~np.isin(x, APART.get(row, []))]
    assert_gradients_close(with_jax(theirs, x), with_torch(ours, x))


@pytest.mark.parametrize("row", APART)
def test_activations_with_different_derivatives_are_listed_and_not_offered(row):
    ours, theirs = SLOPES[row]
    x = np.array(APART[row])
    _, [slopes] = with_jax(theirs, x)
    assert np.abs(slopes - with_torch(ours, x)[1][0]).max() > 1e-12
    assert row.split()[1] not in [activation.name for activation in Activation]


def test_L30_a_prelu_that_starts_at_a_quarter_matches_torch():
    x, slope = RANDOM.normal(size=(6, 5)), np.array(nn.PReLU().weight.item())
    layer = linen.PReLU(param_dtype=float, negative_slope_init=0.25)
    start = layer.init(jax.random.key(0), x)["params"]["negative_slope"]
    assert start == slope == 0.25
    found = with_jax(lambda x, a: layer.apply({"params": {"negative_slope": a}}, x), x, slope)
    assert_gradients_close(found, with_torch(lambda x, a: F.prelu(x, a.reshape(1)), x, slope))


@pytest.mark.parametrize("ddof", [0, 1])
def test_L31_a_deviation_with_explicit_degrees_of_freedom_matches_torch(ddof):
    x = RANDOM.normal(size=(6, 5))
    for name in ("std", "var"):
        found = with_jax(lambda x, n=name: getattr(x, n)(0, ddof=ddof), x)
        assert_gradients_close(
            found, with_torch(lambda x, n=name: getattr(x, n)(0, correction=ddof), x)
        )


HALF = RANDOM.normal(loc=20, size=(8, 64))  # where bf16 has steps of 1/8


def errors(y, rounded):
    """Largest error of a norm of bf16 inputs against float64."""
    wide = rounded.astype(np.float64)
    exact = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-5)
    return np.abs(np.asarray(y, np.float64) - exact).max()


def test_layer_norm_is_never_computed_in_half_precision():
    x = torch.tensor(HALF).bfloat16()
    rounded = x.float().numpy()
    with torch.autocast("cpu", torch.bfloat16):
        ours = TorchLayerNorm(64)(x)
        assert TorchLayerNorm(64)(x.float()).dtype == torch.float32
    y = jnp.asarray(rounded, jnp.bfloat16)
    norm = FlaxLayerNorm(dtype=y.dtype)
    theirs = norm.apply(norm.init(jax.random.key(0), y), y)
    assert ours.dtype == torch.bfloat16
    assert theirs.dtype == jnp.bfloat16
    np.testing.assert_array_equal(ours.detach().float(), theirs.astype(np.float32))
    mean = y.mean(-1, keepdims=True, dtype=jnp.bfloat16)
    half = (y - mean) / jnp.sqrt(jnp.square(y - mean).mean(-1, keepdims=True, dtype=jnp.bfloat16))
    # Rounding the outputs alone costs 2⁻⁹ of up to 3.
    assert errors(ours.detach().float(), rounded) < 1e-2 < errors(half, rounded)


def test_batch_norm_is_never_computed_in_half_precision():
    x = HALF.reshape(8, 8, 2, 4)
    half = torch.tensor(x).bfloat16()
    rounded = half.float().numpy()
    torch_layer, flax_layer = TorchBatchNorm(4), FlaxBatchNorm()
    with torch.autocast("cpu", torch.bfloat16):
        ours = spatial(torch_layer, half).detach()
    y = jnp.asarray(rounded, jnp.bfloat16)
    theirs, variables = flax_layer.init_with_output(jax.random.key(0), y, train=True)
    assert ours.dtype == torch.bfloat16
    assert theirs.dtype == jnp.bfloat16
    stats = variables["batch_stats"]
    unbiased = 0.9 + 0.1 * rounded.astype(np.float64).var((0, 1, 2), ddof=1)
    for found in (torch_layer.running_var, stats["var"]):
        np.testing.assert_allclose(found, unbiased, rtol=1e-5)
    np.testing.assert_allclose(ours.float(), theirs.astype(np.float32), atol=2**-6)
    wide = rounded.reshape(-1, 4).T.astype(np.float64)
    assert errors(np.asarray(ours.float()).reshape(-1, 4).T, wide) < 1e-2
