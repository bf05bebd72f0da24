"""Mistakes in models of images, and in recurrent ones."""

from benchmarks.verify_mutants.mistakes.mistake import Mistake
from benchmarks.verify_mutants.mistakes.places import CELL, only

IMAGES = (
    # Images
    Mistake(
        "same padding",
        {"padding": "same"},
        {
            "cnn": "conv2",
            "resnet": "bn1|layers.0.conv1 / layers.1.conv1",
            "unet": "down2*",
            "upsampler": "down2*",
        },
        "padding",
    ),
    Mistake(
        "padding by reflection",
        {"padding_mode": "reflect"},
        {"unet": "down{n}*", "cnn": "conv{n}"},
        "padding mode|padding",
    ),
    Mistake(
        "padding around",
        {"padding_mode": "circular"},
        {"convnext": "layers.{at}.dwconv", "cnn": "conv{n}"},
        "padding mode|padding",
    ),
    Mistake(
        "offset of the stride",
        {"stride_offset": 1},
        {"cnn": "conv2", "resnet": "layers.1.conv1", "unet": "down2*"},
        "padding|stride",
    ),
    Mistake(
        "dilation",
        {"dilation": 2},
        {"cnn": "conv{n}", "convnext": "layers.{at}.dwconv", "resnet": "conv1 / layers.1.conv1"},
        "dilation",
    ),
    Mistake(
        "groups of a convolution",
        {"extra": frozenset({"split"})},
        {"cnn": "conv2", "unet": "down2*"},
        "groups",
        verdict="part|abstain",
    ),
    Mistake(
        "kernel flipped",
        {"extra": frozenset({"flip"})},
        {"cnn": "conv{n}", "convnext": "layers.{at}.dwconv", "unet": "down{n}*"},
        "kernel flipped",
        relabels=True,
    ),
    Mistake("ceil mode", {"ceil": True}, {"cnn": "bn1|conv2"}, "ceil mode", in_blocks=False),
    Mistake(
        "padding counted",
        {"count_padding": True},
        {"lenet": "bn2|head"},
        "average pool",
        in_blocks=False,
    ),
    Mistake(
        "padding not counted",
        {"count_padding": False},
        {"cnn": "bn2|head"},
        "average pool",
        in_blocks=False,
    ),
    Mistake(
        "average for max pool",
        {"image_pool": "average"},
        {"cnn": "bn1|conv2"},
        "pooling",
        in_blocks=False,
    ),
    Mistake(
        "max for average pool",
        {"image_pool": "max"},
        {"lenet": "bn1|conv2"},
        "pooling",
        in_blocks=False,
    ),
    Mistake(
        "resized without half pixels",
        {"resize": "corner"},
        {"upsampler": "down2*|up.conv|up"},
        "align corners|resize",
        in_blocks=False,
    ),
    Mistake(
        "align corners",
        {"resize": "aligned"},
        {"upsampler": "down2*|up.conv|up"},
        "align corners|resize",
        in_blocks=False,
    ),
    Mistake(
        "nearest for bilinear",
        {"resize": "nearest"},
        {"upsampler": "down2*|up.conv|up"},
        "resize",
        in_blocks=False,
    ),
    Mistake(
        "cubic for bilinear",
        {"resize": "cubic"},
        {"upsampler": "down2*|up.conv|up"},
        "resize",
        in_blocks=False,
    ),
    Mistake(
        "crop of a transposed convolution",
        {"crop": 1},
        {"unet": "up.conv|up|up1*"},
        "padding|crop",
        in_blocks=False,
    ),
    Mistake(
        "order of concatenation",
        {"order": "skip last"},
        {"unet": "up1*|up*", "upsampler": "up1*|up*"},
        "concatenation",
        in_blocks=False,
        relabels=True,
    ),
    # Recurrent
    Mistake(
        "forget bias", {"forget": 1.0}, only(CELL, "lstm"), "forget bias|number", in_blocks=False
    ),
    Mistake("initial carry", {"carry": 1.0}, CELL, "initial carry", in_blocks=False),
    Mistake(
        "direction of time",
        {"direction": "backward"},
        {"lstm": "tokens|input|hidden", "gru": "tokens|input|hidden"},
        "direction",
        in_blocks=False,
    ),
    Mistake(
        "cell for the hidden state",
        {"output": "cell"},
        {"lstm": "hidden|input|head"},
        "order|output",
        in_blocks=False,
    ),
    Mistake(
        "gates exchanged", {"gates": "exchanged"}, only(CELL, "gru"), "gate order", in_blocks=False
    ),
    Mistake(
        "order of gates",
        {"gates": "exchanged"},
        only(CELL, "lstm"),
        "gate order",
        in_blocks=False,
        relabels=True,
    ),
    Mistake(
        "reset gate before the product",
        {"reset": "before"},
        only(CELL, "gru"),
        "reset gate",
        in_blocks=False,
    ),
    Mistake(
        "tanh of the output missing",
        {"missing": frozenset({"output tanh"})},
        only(CELL, "lstm"),
        "activation|missing",
        in_blocks=False,
    ),
)
