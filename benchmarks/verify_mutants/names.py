"""Names of layers on both sides, and whether a reported place is an expected one.

Places are written with torch's names; what linen calls otherwise is translated.
"""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

# Parts of linen's names, by the torch twin's.
WORDS = {
    "embed": "tokens", "position": "positions", "segment": "segments", "classifier": "head",
    "ln_attn": "norm1", "ln_ffn": "norm2", "ln_cross": "norm3", "ln_out": "norm", "ln_memory": "encoder_norm",
    "attention": "attn", "cross_attention": "cross", "ffn": "mlp", "query": "q_proj", "key": "k_proj",
    "value": "v_proj", "out": "out_proj", "qkv": "qkv_proj", "gate": "gate_proj", "up": "up_proj",
    "down": "down_proj", "gate_up": "gate_up_proj", "Dense_0": "fc1", "Dense_1": "fc2", "pool": "pooler",
    "encoder_distance": "encoder_bias", "decoder_distance": "decoder_bias", "token": "cls_token",
    "place": "pos_embed", "over_tokens": "token_mixing", "over_channels": "channel_mixing",
    "ln_tokens": "norm1", "ln_channels": "norm2", "depthwise": "dwconv", "ln": "norm", "layer_scale": "gamma",
    "conv_stem": "conv1", "norm_stem": "bn1", "conv_a": "conv1", "norm_a": "bn1", "conv_b": "conv2",
    "norm_b": "bn2", "project": "shortcut", "norm_project": "shortcut_bn", "conv_0": "conv1", "norm_0": "bn1",
    "conv_1": "conv2", "norm_1": "bn2", "encode_a": "down1", "encode_b": "down2", "expand": "up",
    "decode": "up1", "to_image": "out", "from_input": "input", "from_state": "hidden",
    "blocks": "layers", "cell": "input", "weight_ih": "input", "weight_hh": "hidden",
    "shared_ln_attn": "layers.0.norm1", "shared_ln_ffn": "layers.0.norm2",
    "shared_attention": "layers.0.attn", "shared_ffn": "layers.0.mlp",
}  # fmt: skip
FIRSTS = {"Vit": {"patches": "patch_embed"}, "ConvNext": {"patches": "stem"},
          "Mixer": {"patches": "embed"}, "Resnet": {"classifier": "fc"}}  # fmt: skip


def to_torch(name: str, model: str) -> str:
    """Translate a name of linen's side; `model` is the class."""
    words = WORDS | FIRSTS.get(model, {})
    parts = []
    for part in name.removeprefix(f"{model}.").split("."):
        block = re.fullmatch(r"(?:(encoder|decoder)_)?block_(\d+)", part)
        parts.append(f"{block[1] or 'layers'}.{block[2]}" if block else words.get(part, part))
    return ".".join(parts)


def layers(place: str) -> list[str]:
    """Return the layers that a place names: `between a and b` is two."""
    words = re.sub(r"^(between|after|before|in|inside|at) ", "", place.strip())
    return [part for part in re.split(r" and |, | / ", words) if part]


def is_expected(reported: Iterable[str], patterns: str) -> bool:
    """Return True if one of the layers, by torch's names, is among the patterns `a|b.*`."""
    return any(
        fnmatchcase(layer, pattern) or fnmatchcase(layer.rpartition(".")[0], pattern)
        for layer in reported
        for pattern in patterns.split("|")
    )
