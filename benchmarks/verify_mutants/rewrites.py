"""Harmless rewrites: other ways to write a model, which a referee must call the same."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

TORCH, LINEN, BOTH = ("torch",), ("linen",), ("torch", "linen")
LLAMA_DROPOUTS = {"dropouts": frozenset({"attention", "branch"}), "dropout": 0.0}


@dataclass(frozen=True)
class Rewrite:
    """Another way to write a model, on one of these sides; the other side is as it was."""

    name: str
    changes: Mapping[str, object]
    models: str  # of `bases`, by spaces
    sides: tuple[str, ...] = BOTH
    is_renamed: bool = False
    relabels: bool = False  # where names agree, they say another order of features
    both: Mapping[str, object] = field(default_factory=dict)  # changes of both sides


REWRITES = (
    Rewrite("one projection for query, key and value", {"qkv": "fused"}, "vit gpt bert llama"),
    Rewrite("query, key and value of a head side by side", {"qkv": "interleaved"}, "vit gpt bert"),
    Rewrite("an axis for heads", {"qkv": "heads"}, "vit gpt bert llama", LINEN),
    Rewrite("one projection for gate and up", {"gate_up": "fused"}, "llama"),
    Rewrite("layers defined in another order", {"definition": "reversed"}, "vit bert"),
    Rewrite("einsum for dense", {"dense_style": "einsum"}, "mlp vit gpt t5"),
    Rewrite("convolution of size 1 for dense", {"dense_style": "conv"}, "mixer vit convnext"),
    Rewrite("parameters with axes of size 1", {"shapes": "unit"}, "vit mlp convnext"),
    Rewrite("blocks in a scan", {"stacked": True}, "vit gpt bert llama", LINEN),
    Rewrite("time in a scan", {"stacked": True}, "lstm gru", LINEN),
    Rewrite("recomputed blocks", {"remat": True}, "gpt"),
    Rewrite("norms written out", {"norm_style": "manual"}, "gpt vit bert unet"),
    Rewrite("batch norm written out", {"norm_style": "manual"}, "cnn resnet", TORCH),
    Rewrite("variance in one pass", {"norm_style": "fast"}, "gpt mixer"),
    Rewrite("attention of the library", {"attention": "library"}, "vit gpt bert llama"),
    Rewrite("attention with keys before queries", {"attention": "transposed"}, "vit t5", LINEN),
    Rewrite("mask by a sum", {"attention": "masked by a sum"}, "gpt bert t5"),
    Rewrite("another large number in the mask", {"mask_value": -1e30}, "gpt bert t5"),
    Rewrite("formulas written out", {"formula": "manual"}, "vit llama mlp lstm resnet"),
    Rewrite("table as a product with one-hot rows", {"lookup": "one_hot"}, "gpt bert lstm"),
    Rewrite("channels last before a dense layer", {"layout": "channels last"}, "lenet"),
    Rewrite("patches cut out", {"layout": "channels last"}, "vit mixer", LINEN, relabels=True),
    Rewrite("rotation from another position", {"first_position": 3}, "llama"),
    Rewrite("a layer that nothing uses", {"unused": True}, "vit gpt", TORCH),
    Rewrite("float32 in norms and softmax", {"float32": True}, "gpt llama"),
    Rewrite("dropout of rate zero", LLAMA_DROPOUTS, "llama"),
    Rewrite("a product for each gate", {"cell": "apart"}, "gru", TORCH),
    Rewrite("the library's recurrent layer", {"cell": "library"}, "lstm gru"),
    Rewrite("constants as buffers", {"constants": "buffer"}, "llama", TORCH),
    Rewrite("weight norm", {}, "mlp", TORCH, both={"dense_style": "weight norm"}),
    Rewrite(
        "meaningless names", {},
        "mlp cnn lenet resnet unet convnext mixer vit gpt bert llama t5 lstm gru",
        is_renamed=True,
    ),
)  # fmt: skip
KINDS = Rewrite("another kind of model", {}, "mlp vit gpt lstm")
OTHER_KINDS = (
    ("mlp", "nnx", "torch"), ("mlp", "nnx", "linen"), ("vit", "nnx", "torch"), ("vit", "nnx", "linen"),
    ("vit", "equinox", "torch"), ("vit", "equinox", "nnx"), ("lstm", "equinox", "torch"),
    ("lstm", "equinox", "linen"), ("gpt", "functions", "torch"), ("gpt", "functions", "linen"),
)  # fmt: skip


@dataclass(frozen=True)
class Rewritten:
    """A base model, and another way to write it on one side."""

    model: str
    rewrite: Rewrite
    side: str
    other: str  # framework of the side that is as it was

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"{self.model}: {self.rewrite.name} ({self.side} against {self.other})"


def rewritten() -> Iterator[Rewritten]:
    """Every rewrite of every model, on each side; now and then within a framework."""
    for rewrite in REWRITES:
        for turn, model in enumerate(rewrite.models.split()):
            for side in rewrite.sides:
                across = "linen" if side == "torch" else "torch"
                within = len(rewrite.sides) == 1 and turn % 2 == 1 and not rewrite.relabels
                yield Rewritten(model, rewrite, side, side if within else across)
    for model, side, other in OTHER_KINDS:
        yield Rewritten(model, KINDS, side, other)
