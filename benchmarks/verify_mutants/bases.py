"""Base models: their two classes, settings and inputs."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module

from benchmarks.verify_mutants.settings import Settings

NOWHERE: frozenset[str] = frozenset()
IMAGES = Settings(activation="relu", norm="batch", pool="mean", dropouts=frozenset({"head"}))
TOKENS, LABELS = "ids=int32[3,7] 1..23", "labels=int32[3,7] 1..23"
MASK, CLASSES = "mask=mask[3,7]", "labels=int32[3] 0..5"


def images(size: int) -> str:
    """Describe images as torch has them."""
    return f"x=float64[3,3,{size},{size}] NCHW"


@dataclass(frozen=True)
class Base:
    """A base model."""

    path: str  # module and class, the same in both packages
    inputs: tuple[str, ...]  # in the grammar of `pipeline.verify`
    settings: Settings

    def kind(self, side: str) -> Callable:
        """Return the class of a side: `torch` or `linen`."""
        module, _, name = self.path.partition(".")
        return getattr(import_module(f"benchmarks.verify_mutants.{side}_side.{module}"), name)


BASES = {
    "mlp": Base(
        "small.Mlp",
        ("x=float64[3,12]", CLASSES),
        Settings(activation="leaky_relu", dropouts=frozenset({"hidden"})),
    ),
    "cnn": Base("images.Cnn", (images(13),), IMAGES),
    "lenet": Base(
        "images.Cnn",
        (images(13),),
        Settings(
            activation="tanh", norm="batch", pool="flatten", dropouts=NOWHERE,
            image_pool="average", count_padding=False,
        ),
    ),
    "resnet": Base("images.Resnet", (images(8), CLASSES), IMAGES),
    "unet": Base(
        "images.Unet",
        (images(8),),
        Settings(
            activation="silu", norm="group", dropouts=frozenset({"stage"}), order="skip first",
            resize="transposed",
        ),
    ),
    "upsampler": Base(
        "images.Unet",
        (images(8),),
        Settings(norm="group", dropouts=NOWHERE, order="skip first", resize="bilinear"),
    ),
    "convnext": Base("images.ConvNext", (images(8),), Settings(epsilon=1e-6, pool="mean")),
    "mixer": Base(
        "images.Mixer", (images(8),), Settings(pool="mean", dropouts=frozenset({"branch"}))
    ),
    "vit": Base("transformers.Vit", (images(8),), Settings(epsilon=1e-6)),
    "gpt": Base("transformers.Gpt", (TOKENS, LABELS), Settings(activation="gelu_tanh")),
    "bert": Base(
        "transformers.Bert",
        (TOKENS, MASK, "segments=int32[3,7] 0..2"),
        Settings(epsilon=1e-12, norm_place="post"),
    ),
    "llama": Base(
        "transformers.Llama",
        (TOKENS,),
        Settings(
            activation="silu", norm="rms", epsilon=1e-6, kv_heads=2, tied=False, dropouts=NOWHERE
        ),
    ),
    "t5": Base(
        "transformers.T5",
        (TOKENS, MASK, "decoder_ids=int32[3,5] 1..23"),
        Settings(
            activation="relu", norm="rms", scale="none", head_scale=0.25, dropouts=frozenset({"head"})
        ),
    ),
    "lstm": Base(
        "small.Lstm",
        (TOKENS,),
        Settings(activation="none", dropouts=frozenset({"embedding", "head"})),
    ),
    "gru": Base(
        "small.Gru",
        (TOKENS,),
        Settings(activation="none", dropouts=frozenset({"embedding", "head"})),
    ),
}  # fmt: skip
