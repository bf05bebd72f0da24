"""Models agree with the published ones of torch, torchvision and timm."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torchvision
from asserts import assert_arrays_close, gap
from model_twins import BERT, CLASSES, GPT, SEQ2SEQ, VIT, randomised
from torch import nn

from flax_impl import models as flax_models
from flax_impl.layout import layout_of
from flax_impl.state import from_canonical, to_canonical
from lightning_impl import models as torch_models
from lightning_impl.state import COUNTER, buffers_of
from pipeline.config.models import ResNet18Config, ResNet50Config, Stem

pytestmark = pytest.mark.usefixtures("float64")


@pytest.mark.parametrize(
    ("config", "train"),
    [
        (ResNet18Config(stem=Stem.imagenet), True),
        *(
            pytest.param(kind(stem=Stem.imagenet), train, marks=pytest.mark.slow)
            for kind, train in ((ResNet18Config, False), (ResNet50Config, True))
        ),
    ],
    ids=["resnet18-training", "resnet18-evaluating", "resnet50-training"],
)
def test_a_resnet_matches_torchvision_and_loads_its_weights_unchanged(config, train):
    model = getattr(torchvision.models, config.name)
    theirs = randomised(model(weights=None, num_classes=1000).double())
    ours = torch_models.build_model(config, (64, 64, 3), 1000).double()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    flax_model = flax_models.build_model(config, (64, 64, 3), 1000, dtype=float, param_dtype=float)
    x = np.random.default_rng(0).normal(size=(2, 64, 64, 3))
    layout = layout_of(flax_model, jax.ShapeDtypeStruct(x.shape, x.dtype))
    arrays = {
        name: array.numpy().copy()
        for name, array in theirs.state_dict().items()
        if not name.endswith(COUNTER)
    }
    names = {place.name for place in layout.values() if place.collection == "params"}
    variables = {
        "params": from_canonical({name: arrays[name] for name in names}, layout),
        "batch_stats": from_canonical({name: arrays[name] for name in set(arrays) - names}, layout),
    }
    apply = partial(flax_model.apply, train=train, mutable=["batch_stats"])
    found, changed = jax.jit(apply)(variables, x)
    with torch.no_grad():
        images = torch.tensor(x).permute(0, 3, 1, 2)
        expected, own = theirs.train(train)(images).numpy(), ours.train(train)(images).numpy()
    np.testing.assert_array_equal(own, expected)
    assert gap(np.asarray(found), expected) < 1e-10
    assert_arrays_close(to_canonical(changed["batch_stats"], layout), buffers_of(theirs), 1e-10)


def test_vit_matches_torchvision():
    theirs = randomised(
        torchvision.models.VisionTransformer(
            image_size=12,
            patch_size=4,
            num_layers=2,
            num_heads=2,
            hidden_dim=8,
            mlp_dim=32,
            num_classes=CLASSES,
        ).double()
    )
    names = {
        "class_token": "cls_token",
        "encoder.pos_embedding": "pos_embed",
        "conv_proj": "patch_embed.proj",
        "encoder.layers.encoder_layer_": "blocks.",
        "encoder.ln": "norm",
        "ln_": "norm",
        "self_attention.in_proj_": "attn.qkv.",
        "self_attention.out_proj": "attn.proj",
        "mlp.0": "mlp.fc1",
        "mlp.3": "mlp.fc2",
        "heads.head": "head",
    }
    renamed = {}
    for name, array in theirs.state_dict().items():
        for old, new in names.items():
            name = name.replace(old, new)
        renamed[name] = array
    ours = torch_models.build_model(VIT, (12, 12, 3), CLASSES).double()
    ours.load_state_dict(renamed, strict=True)
    x = torch.tensor(np.random.default_rng(0).normal(size=(2, 3, 12, 12)))
    with torch.no_grad():
        assert gap(ours.eval()(x).numpy(), theirs.eval()(x).numpy()) < 1e-12


@pytest.mark.parametrize(("config", "causal"), [(GPT, True), (BERT, False)], ids=["gpt", "bert"])
def test_a_block_matches_torchs_encoder_layer(config, causal):
    ours = randomised(torch_models.build_model(config, (6,), CLASSES).double()).h[0].eval()
    theirs = nn.TransformerEncoderLayer(
        8, 2, 32, 0.0, partial(nn.functional.gelu, approximate="tanh"), config.norm_epsilon,
        batch_first=True, norm_first=causal, dtype=torch.double,
    ).eval()  # fmt: skip
    names = {
        "ln_": "norm",
        "attn.c_attn.": "self_attn.in_proj_",
        "attn.c_proj": "self_attn.out_proj",
        "mlp.c_fc": "linear1",
        "mlp.c_proj": "linear2",
    }
    renamed = {}
    for name, array in ours.state_dict().items():
        for old, new in names.items():
            name = name.replace(old, new)
        renamed[name] = array
    theirs.load_state_dict(renamed, strict=True)
    x = torch.tensor(np.random.default_rng(0).normal(size=(3, 6, 8)))
    mask = nn.Transformer.generate_square_subsequent_mask(6, dtype=torch.double)
    with torch.no_grad():
        expected = theirs(x, src_mask=mask if causal else None, is_causal=causal)
        assert gap(ours(x).numpy(), expected.numpy()) < 1e-12


def test_an_encoder_and_a_decoder_match_torchs_and_leave_padding_out():
    ours = randomised(torch_models.build_model(SEQ2SEQ, (6,), CLASSES).double()).eval()
    gelu = partial(nn.functional.gelu, approximate="tanh")
    options = {"batch_first": True, "norm_first": True, "dtype": torch.double}
    encoder = nn.TransformerEncoderLayer(8, 2, 32, 0.0, gelu, **options).eval()
    decoder = nn.TransformerDecoderLayer(8, 2, 32, 0.0, gelu, **options).eval()
    state = ours.state_dict()
    for side, layer, norms in (("encoder", encoder, (1, 2)), ("decoder", decoder, (1, 3))):
        block = {n.removeprefix(f"{side}.0."): a for n, a in state.items() if f"{side}.0." in n}
        renamed = {}
        for role in ("weight", "bias"):
            renamed |= {
                f"self_attn.in_proj_{role}": block[f"attn.c_attn.{role}"],
                f"self_attn.out_proj.{role}": block[f"attn.c_proj.{role}"],
                f"linear1.{role}": block[f"mlp.c_fc.{role}"],
                f"linear2.{role}": block[f"mlp.c_proj.{role}"],
                f"norm{norms[0]}.{role}": block[f"ln_1.{role}"],
                f"norm{norms[1]}.{role}": block[f"ln_2.{role}"],
            }
            if side == "decoder":
                packed = [block[f"crossattention.{part}.{role}"] for part in ("q_attn", "c_attn")]
                renamed |= {
                    f"multihead_attn.in_proj_{role}": torch.cat(packed),
                    f"multihead_attn.out_proj.{role}": block[f"crossattention.c_proj.{role}"],
                    f"norm2.{role}": block[f"ln_cross_attn.{role}"],
                }
        layer.load_state_dict(renamed, strict=True)
    source = torch.tensor([[3, 1, 0, 0], [1, 2, 4, 1], [2, 0, 0, 0]])
    target = torch.tensor([[0, 1, 3, 0, 0], [0, 4, 4, 1, 2], [0, 2, 0, 0, 0]])
    mask = nn.Transformer.generate_square_subsequent_mask(5, dtype=torch.double)
    padding = torch.zeros(source.shape, dtype=torch.double).masked_fill(source == 0, -torch.inf)
    with torch.no_grad():
        memory = encoder(ours.embed(source), src_key_padding_mask=padding)
        memory = ours.encoder_norm(memory)
        x = decoder(ours.embed(target), memory, mask, memory_key_padding_mask=padding)
        expected = ours.decoder_norm(x) @ ours.wte.weight.T
        found = ours(source, target)
        assert gap(found.numpy(), expected.numpy()) < 1e-12
        # A longer padding changes nothing, and padding alone makes no NaN.
        longer = nn.functional.pad(source, (0, 3))
        assert gap(ours(longer, target).numpy(), found.numpy()) < 1e-12
        assert ours(torch.zeros_like(source), target).isfinite().all()


def test_vit_has_the_parameter_names_of_timm():
    model = torch_models.build_model(replace(VIT, depth=1), (8, 8, 3), CLASSES)
    layers = ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2")
    layers = ["patch_embed.proj", *(f"blocks.0.{layer}" for layer in layers), "norm", "head"]
    names = [f"{layer}.{role}" for layer in layers for role in ("weight", "bias")]
    assert list(model.state_dict()) == ["cls_token", "pos_embed", *names]
    assert model.pos_embed.shape == (1, 5, 8)


# As the papers, torchvision, timm and the released GPT-2 have them.
PUBLISHED = {
    "resnet18 model.stem=imagenet": ((224, 224, 3), 1000, 11_689_512),
    "resnet50 model.stem=imagenet": ((224, 224, 3), 1000, 25_557_032),
    "vit_tiny": ((224, 224, 3), 1000, 5_717_416),
    "vit_small": ((224, 224, 3), 1000, 22_050_664),
    "vit_base": ((224, 224, 3), 1000, 86_567_656),
    "gpt2": ((16,), 50257, 124_439_808),
    "gpt2_medium": ((16,), 50257, 354_823_168),
    "gpt2_large": ((16,), 50257, 774_030_080),
    "gpt2_xl": ((16,), 50257, 1_557_611_200),
}


@pytest.mark.parametrize("preset", PUBLISHED)
def test_a_preset_has_the_published_number_of_parameters_in_torch(configure, preset):
    shape, outputs, expected = PUBLISHED[preset]
    with torch.device("meta"):
        model = torch_models.build_model(configure(f"model={preset}").model, shape, outputs)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


# The wider and deeper ones are the same layers; that all layers are those of torch is held by their twins.
DEEP = {
    "resnet50 model.stem=imagenet",
    "vit_small",
    "vit_base",
    "gpt2_medium",
    "gpt2_large",
    "gpt2_xl",
}


@pytest.mark.parametrize(
    "preset",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in DEEP)) for name in PUBLISHED],
)
def test_a_preset_has_the_published_number_of_parameters_in_jax(configure, preset):
    shape, outputs, expected = PUBLISHED[preset]
    config = configure(f"model={preset}").model
    flax_model = flax_models.build_model(
        config, shape, outputs, dtype=jnp.float32, param_dtype=jnp.float32
    )
    dtype = jnp.int32 if len(shape) == 1 else jnp.float32
    layout = layout_of(flax_model, jax.ShapeDtypeStruct((1, *shape), dtype))
    sizes = [np.prod(place.shape) for place in layout.values() if place.collection == "params"]
    assert sum(sizes) == expected
