"""Places of mistakes, as patterns of layers by torch's names."""

from collections.abc import Mapping

# Places by model, `in all of it / in the last block alone`; {at} is the first block that has the mistake.
ACTIVATION = {
    "mlp": "fc1|fc2", "cnn": "bn1|conv2 / bn2|head", "lenet": "bn1|conv2 / bn2|head",
    "resnet": "bn1|layers.0.conv1 / layers.1.bn1|layers.1.conv2",
    "unet": "down1*|down2.conv / down2*|up*", "upsampler": "down1*|down2.conv / down2*|up*",
    "convnext": "layers.{at}.mlp*", "mixer": "layers.{at}.token_mixing*", "vit": "layers.{at}.mlp*",
    "gpt": "layers.{at}.mlp*", "bert": "layers.{at}.mlp*", "llama": "layers.{at}.mlp*",
    "t5": "encoder.{at}.mlp*",
}  # fmt: skip
NORM = {
    "mlp": "norm|fc2|head", "cnn": "bn{n}|conv{n}", "resnet": "bn1|conv1 / layers.1.bn1|layers.1.conv1",
    "unet": "down{n}*", "upsampler": "down{n}*",
    "convnext": "layers.{at}.norm|layers.{at}.dwconv|layers.{at}.mlp.fc1",
    "mixer": "layers.{at}.norm1|layers.{at}.token_mixing.fc1",
    "vit": "layers.{at}.norm1|layers.{at}.attn*", "gpt": "layers.{at}.norm1|layers.{at}.attn*",
    "bert": "norm|layers.0.attn* / layers.1.attn*|layers.1.norm1|layers.1.mlp*",
    "llama": "layers.{at}.norm1|layers.{at}.attn*", "t5": "encoder.{at}.norm1|encoder.{at}.attn*",
}  # fmt: skip
BATCH_NORM = {"cnn": "bn{n}|conv{n}", "lenet": "bn{n}|conv{n}",
              "resnet": "bn1|conv1 / layers.1.bn1|layers.1.conv1"}  # fmt: skip
ATTENTION = {
    **dict.fromkeys(("vit", "gpt", "bert", "llama"), "layers.{at}.attn*"), "t5": "encoder.{at}.attn*"
}  # fmt: skip
BRANCH = {  # around the sum of a block's first branch
    **dict.fromkeys(("vit", "gpt", "bert", "llama"), "layers.{at}.attn*|layers.{at}.norm1|layers.{at}.norm2"),
    "t5": "encoder.{at}.attn*|encoder.{at}.norm1|encoder.{at}.norm2",
    "mixer": "layers.{at}.token_mixing*|layers.{at}.norm1|layers.{at}.norm2",
}  # fmt: skip
RESNET = "layers.0.bn2|layers.1.conv1 / layers.1.bn2|layers.1.shortcut_bn|fc"
CONVNEXT = "layers.{at}.mlp*|layers.{at}.gamma|layers.{at}|layers.1.dwconv|norm"
DROPOUT = {  # the first dropout, or that of the last block
    "mlp": "fc1|fc2", "cnn": "bn2|head", "vit": "pos_embed|layers.0.norm1 / layers.1.attn*",
    "gpt": "positions|tokens|layers.0.norm1 / layers.1.attn*", "bert": "norm|layers.0.attn* / layers.1.attn*",
    "unet": "down1*|down2.conv / down2*|up*", "lstm": "tokens|input", "gru": "tokens|input",
    "mixer": "layers.{at}|layers.{at}.token_mixing*|layers.{at}.norm2",
}  # fmt: skip
TABLE = {"gpt": "tokens|positions|layers.0.norm1", "t5": "tokens|encoder.0.norm1",
         "llama": "tokens|layers.0.norm1"}  # fmt: skip
POOLING = {"vit": "norm|head", "bert": "layers.1.norm2|pooler", "convnext": "layers.1*|norm|head",
           "mixer": "norm|head", "cnn": "bn2|head", "resnet": "layers.1*|fc",
           "lstm": "hidden|head", "gru": "hidden|head"}  # fmt: skip
LOSS = {"gpt": "tokens|norm|loss", "mlp": "head|loss", "resnet": "fc|loss"}
CELL = {"lstm": "input|hidden", "gru": "input|hidden"}


def only(places: Mapping[str, str], *models: str) -> dict[str, str]:
    """Take the places of some models."""
    return {model: places[model] for model in models}
