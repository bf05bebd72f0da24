"""ResNet and transformers: both backends agree with each other and with the published models.

Each array is compared on its own scale: the largest difference over the largest number.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torchvision
from asserts import assert_arrays_close, gap
from gradients import compiled, weights
from torch import nn

from flax_impl import models as flax_models
from flax_impl import randomness as flax_randomness
from flax_impl.layers import layer_kinds as flax_kinds
from flax_impl.layers import layout_of
from flax_impl.state import from_canonical, shapes_of, to_canonical
from lightning_impl import models as torch_models
from lightning_impl import randomness as torch_randomness
from lightning_impl.layers import layer_kinds as torch_kinds
from lightning_impl.models import attention as torch_attention
from lightning_impl.state import COUNTER, buffers_of, parameters_of
from lightning_impl.state import shapes_of as torch_shapes
from pipeline.config.models import (
    BERTConfig,
    EncoderDecoderConfig,
    GPTConfig,
    ModelConfig,
    Pool,
    ResNet18Config,
    ResNet50Config,
    Stem,
    UNetConfig,
    ViTConfig,
)

pytestmark = pytest.mark.usefixtures("float64")
CLASSES = 5


@dataclass(frozen=True)
class Case:
    """A model config, and shapes of a batch's inputs: images, or of whole numbers such as tokens."""

    config: ModelConfig
    shape: tuple[int, ...]
    others: tuple[tuple[int, ...], ...] = ()

    def batch(self) -> list[np.ndarray]:
        random = np.random.default_rng(1)
        return [
            random.normal(size=shape) if len(shape) == 4 else random.integers(0, CLASSES, shape)
            for shape in (self.shape, *self.others)
        ]


SMALL = {"depth": 2, "heads": 2, "width": 8}
VIT, GPT, BERT = ViTConfig(**SMALL), GPTConfig(**SMALL), BERTConfig(**SMALL)
SEQ2SEQ = EncoderDecoderConfig(**SMALL | {"depth": 1}, max_length=7)
UNET = UNetConfig(width=4, groups=2, time=True)
IMAGES, TOKENS = (4, 12, 8, 3), (3, 6)
CASES = {
    "resnet18": Case(ResNet18Config(width=4), (4, 11, 8, 3)),
    "resnet18 for imagenet": Case(ResNet18Config(width=4, stem=Stem.imagenet), (3, 69, 40, 2)),
    "resnet50": Case(ResNet50Config(width=4), (6, 11, 8, 3)),
    "vit": Case(VIT, IMAGES),
    "vit by the mean": Case(replace(VIT, pool=Pool.mean, norm_epsilon=1e-2), IMAGES),
    "vit of one block and head": Case(ViTConfig(depth=1, heads=1, width=6, patch=2), (2, 4, 4, 1)),
    "unet": Case(UNET, IMAGES, ((4,),)),
    "unet without time": Case(replace(UNET, time=False, depth=1, groups=1), (2, 4, 6, 1)),
    "gpt": Case(GPT, TOKENS),
    "gpt without biases": Case(replace(GPT, bias=False, norm_epsilon=1e-2), TOKENS),
    "gpt with more positions": Case(replace(GPT, max_length=9, heads=1), TOKENS),
    "bert": Case(BERT, TOKENS),
    "encoder_decoder": Case(SEQ2SEQ, TOKENS, ((3, 7),)),
}
DROPPED = {
    "vit": Case(replace(VIT, dropout=0.3, drop_path=0.5), IMAGES),
    "gpt": Case(replace(GPT, dropout=0.3), TOKENS),
    "bert": Case(replace(BERT, depth=1, dropout=0.3), TOKENS),
    "encoder_decoder": Case(replace(SEQ2SEQ, dropout=0.3), TOKENS, ((3, 7),)),
    "unet": Case(replace(UNET, depth=1, dropout=0.3), IMAGES, ((4,),)),
}
# Slow to compile, or the same layers as another.
SLOW = {"resnet50", "unet without time", "vit of one block and head", "gpt without biases"}


class Twins:
    """A model on both sides, with the same random parameters and statistics."""

    def __init__(self, case: Case) -> None:
        inputs = case.shape[1:]
        self.torch = randomised(torch_models.build_model(case.config, inputs, CLASSES).double())
        self.flax = flax_models.build_model(
            case.config, inputs, CLASSES, dtype=float, param_dtype=float
        )
        self.x, *self.others = case.batch()
        self.smooth = self.x.dtype == float
        given = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in (self.x, *self.others)]
        self.layout = layout_of(self.flax, *given)
        self.params = from_canonical(parameters_of(self.torch), self.layout)
        self.stats = from_canonical(buffers_of(self.torch), self.layout)

    def with_torch(self, train: bool, key: torch_randomness.Key | None = None) -> dict:
        """Outputs, statistics after them, and gradients with respect to inputs and parameters."""
        model = self.torch.train(train)
        torch_randomness.use_key(model, key)
        x = torch.tensor(self.x, requires_grad=self.smooth)
        outputs = model(self.in_torch(x), *map(torch.tensor, self.others))
        outputs = outputs.movedim(1, -1) if outputs.ndim == 4 else outputs
        model.zero_grad()
        (outputs * torch.tensor(weights(outputs.shape))).sum().backward()
        found = {f"by {name}": p.grad.numpy() for name, p in model.named_parameters()}
        found |= buffers_of(model) | {"outputs": outputs.detach().numpy()}
        return found | ({"by inputs": x.grad.numpy()} if self.smooth else {})

    @staticmethod
    def in_torch(x: torch.Tensor) -> torch.Tensor:
        """Inputs in torch's layout."""
        return x.movedim(-1, 1) if x.ndim == 4 else x

    def with_flax(self, train: bool, key: jax.Array | None = None) -> dict:
        """The same as `with_torch`, in Flax."""
        by, (outputs, changed) = self.differentiated(self.params, self.x, train, key)
        by_params, by_inputs = by if self.smooth else (by, None)
        found = {f"by {name}": a for name, a in to_canonical(by_params, self.layout).items()}
        found |= to_canonical(changed.get("batch_stats", {}), self.layout)
        found["outputs"] = np.asarray(outputs)
        return found | ({"by inputs": np.asarray(by_inputs)} if self.smooth else {})

    @cached_property
    def differentiated(self) -> Callable:
        """Gradients, outputs and statistics of (parameters, inputs, train, key), compiled once."""

        def loss(params: dict, x: jax.Array, train: bool, key: jax.Array | None) -> tuple:
            variables = {"params": params, "batch_stats": self.stats}
            rngs = {} if key is None else {"dropout": key}
            outputs, changed = self.flax.apply(
                variables, x, *self.others, train=train, rngs=rngs, mutable=["batch_stats"]
            )
            return (outputs * weights(outputs.shape)).sum(), (outputs, changed)

        gradient = jax.grad(loss, (0, 1) if self.smooth else 0, has_aux=True)
        return compiled(gradient, static_argnames="train")


def randomised(model: nn.Module) -> nn.Module:
    """Set all parameters and statistics to different random numbers, those of norms included."""
    random = np.random.default_rng(0)
    with torch.no_grad():
        for name, array in model.state_dict().items():
            if name.endswith("running_var"):
                array.copy_(torch.tensor(random.uniform(0.5, 2, tuple(array.shape))))
            elif not name.endswith(COUNTER):
                array.copy_(torch.tensor(random.normal(size=tuple(array.shape)) * 0.4))
    return model


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
                marks=() if name in {"resnet18", "vit"} else pytest.mark.slow,
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


@pytest.mark.parametrize("name", ["vit", "gpt"])
def test_native_masks_are_applied_in_training_only(configure, name):
    config, twins = configure("train.randomness=native"), Twins(DROPPED[name])
    plain, key = twins.with_torch(False)["outputs"], torch_randomness.step_key
    first, second, again = (
        twins.with_torch(True, key(config, step))["outputs"] for step in (0, 1, 0)
    )
    assert gap(first, plain) > 1e-2 < gap(second, first)
    np.testing.assert_array_equal(again, first)
    np.testing.assert_array_equal(twins.with_torch(False)["outputs"], plain)
    assert_arrays_close(twins.with_flax(False), twins.with_torch(False))
    key = flax_randomness.step_key
    first, second = (twins.with_flax(True, key(config, step))["outputs"] for step in (0, 1))
    assert gap(first, plain) > 1e-2 < gap(second, first)


def test_dropout_on_attention_alone_works_with_either_generator(configure):
    model = torch_attention.Attention(8, 2, ("a", "b", "c", "d"), (0.5, 0.0)).double()
    x = torch.tensor(np.random.default_rng(0).normal(size=(2, 6, 8)))
    plain = model.eval()(x).detach().numpy()
    for generator in ("native", "shared"):
        config = configure(f"train.randomness={generator}")
        outputs = []
        for step in (0, 0, 1):
            torch_randomness.use_key(model, torch_randomness.step_key(config, step))
            outputs.append(model.train()(x).detach().numpy())
        np.testing.assert_array_equal(outputs[0], outputs[1])
        assert gap(outputs[0], plain) > 1e-2 < gap(outputs[2], outputs[0])
        np.testing.assert_array_equal(model.eval()(x).detach().numpy(), plain)


@pytest.mark.parametrize("name", ["resnet18", "vit", "gpt", "bert", "unet", "encoder_decoder"])
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
    found = compiled(model.apply)(variables, x, *twins.others)
    assert found.dtype == jnp.bfloat16
    assert gap(np.asarray(found, float), exact) < 0.03
    by = jax.eval_shape(
        jax.grad(lambda v: model.apply(v, x, *twins.others).astype(float).sum()), variables
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(by)} == {jnp.float32.dtype}


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
    found, changed = compiled(apply)(variables, x)
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


@pytest.mark.parametrize("train", [True, False], ids=["with dropout", "without"])
def test_gpt_does_not_see_later_tokens(configure, train):
    twins, config = Twins(DROPPED["gpt"]), configure("train.randomness=shared")
    keys = torch_randomness.step_key(config, 0), flax_randomness.step_key(config, 0)
    before = twins.with_torch(train, keys[0]), twins.with_flax(train, keys[1])
    twins.x[:, 4] = (twins.x[:, 4] + 1) % CLASSES
    after = twins.with_torch(train, keys[0]), twins.with_flax(train, keys[1])
    for old, new in zip(before, after, strict=True):
        old, new = old["outputs"], new["outputs"]
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


# The deeper ones are the same layers more often.
DEEP = {"vit_base", "gpt2_medium", "gpt2_large", "gpt2_xl"}


@pytest.mark.parametrize(
    "preset",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in DEEP)) for name in PUBLISHED],
)
def test_a_preset_has_the_published_number_of_parameters(configure, preset):
    shape, outputs, expected = PUBLISHED[preset]
    config = configure(f"model={preset}").model
    with torch.device("meta"):
        model = torch_models.build_model(config, shape, outputs)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    flax_model = flax_models.build_model(
        config, shape, outputs, dtype=jnp.float32, param_dtype=jnp.float32
    )
    dtype = jnp.int32 if len(shape) == 1 else jnp.float32
    layout = layout_of(flax_model, jax.ShapeDtypeStruct((1, *shape), dtype))
    sizes = [np.prod(place.shape) for place in layout.values() if place.collection == "params"]
    assert sum(sizes) == expected
