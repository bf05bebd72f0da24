"""Small models of both backends with the same random weights, for tests."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import jax
import numpy as np
import torch
from gradients import weights
from torch import nn

from flax_impl import models as flax_models
from flax_impl.layout import layout_of
from flax_impl.state import from_canonical, to_canonical
from lightning_impl import models as torch_models
from lightning_impl.layer_keys import LayerKeys
from lightning_impl.state import COUNTER, buffers_of, parameters_of
from lightning_impl.threefry import Key
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
    "vit by the mean": Case(replace(VIT, depth=1, pool=Pool.mean, norm_epsilon=1e-2), IMAGES),
    "vit of one block and head": Case(ViTConfig(depth=1, heads=1, width=6, patch=2), (2, 4, 4, 1)),
    "unet": Case(UNET, IMAGES, ((4,),)),
    "unet without time": Case(replace(UNET, time=False, depth=1, groups=1), (2, 4, 6, 1)),
    "gpt": Case(GPT, TOKENS),
    "gpt without biases": Case(replace(GPT, bias=False, norm_epsilon=1e-2), TOKENS),
    "gpt with more positions": Case(replace(GPT, depth=1, max_length=9, heads=1), TOKENS),
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
SLOW = {
    "resnet50", "resnet18 for imagenet", "unet without time", "vit of one block and head",
    "gpt without biases",
}  # fmt: skip


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

    def with_torch(self, train: bool, key: Key | None = None) -> dict:
        """Outputs, statistics after them, and gradients with respect to inputs and parameters."""
        model = self.torch.train(train)
        LayerKeys(model).use(key)
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

    def outputs_with_flax(self, train: bool, key: jax.Array | None = None) -> np.ndarray:
        """Outputs alone, which are compiled in half the time."""
        return np.asarray(self.applied(self.params, self.x, train, key))

    @cached_property
    def applied(self) -> Callable:
        """Outputs of (parameters, inputs, train, key), compiled once."""

        def outputs(params: dict, x: jax.Array, train: bool, key: jax.Array | None) -> jax.Array:
            return self._apply(params, x, train, key)[0]

        return jax.jit(outputs, static_argnames="train")

    def _apply(self, params: dict, x: jax.Array, train: bool, key: jax.Array | None) -> tuple:
        variables = {"params": params, "batch_stats": self.stats}
        rngs = {} if key is None else {"dropout": key}
        return self.flax.apply(
            variables, x, *self.others, train=train, rngs=rngs, mutable=["batch_stats"]
        )

    @cached_property
    def differentiated(self) -> Callable:
        """Gradients, outputs and statistics of (parameters, inputs, train, key), compiled once."""

        def loss(params: dict, x: jax.Array, train: bool, key: jax.Array | None) -> tuple:
            outputs, changed = self._apply(params, x, train, key)
            return (outputs * weights(outputs.shape)).sum(), (outputs, changed)

        gradient = jax.grad(loss, (0, 1) if self.smooth else 0, has_aux=True)
        return jax.jit(gradient, static_argnames="train")


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
