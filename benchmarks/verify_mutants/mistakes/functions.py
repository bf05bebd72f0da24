"""Mistakes in functions, residual connections and biases."""

from benchmarks.verify_mutants.mistakes.mistake import Mistake
from benchmarks.verify_mutants.mistakes.places import (
    ACTIVATION,
    ATTENTION,
    BRANCH,
    CELL,
    CONVNEXT,
    RESNET,
    only,
)

FUNCTIONS = (
    # Functions
    Mistake(
        "gelu by tanh",
        {"activation": "gelu_tanh"},
        only(ACTIVATION, "vit", "bert", "convnext", "mixer", "upsampler"),
        "gelu",
    ),
    Mistake("gelu exact", {"activation": "gelu"}, only(ACTIVATION, "gpt"), "gelu"),
    Mistake(
        "gelu by sigmoid",
        {"activation": "gelu_sigmoid"},
        only(ACTIVATION, "vit", "gpt"),
        "gelu|activation",
    ),
    Mistake(
        "silu for the activation",
        {"activation": "silu"},
        only(ACTIVATION, "cnn", "resnet", "gpt", "t5"),
        "activation",
    ),
    Mistake(
        "gelu for silu", {"activation": "gelu"}, only(ACTIVATION, "llama", "unet"), "activation"
    ),
    Mistake("relu for tanh", {"activation": "relu"}, only(ACTIVATION, "lenet"), "activation"),
    Mistake(
        "relu squared",
        {"activation": "relu_squared"},
        only(ACTIVATION, "t5", "resnet"),
        "activation",
    ),
    Mistake("elu for relu", {"activation": "elu"}, only(ACTIVATION, "cnn", "mlp"), "activation"),
    Mistake(
        "leaky slope", {"slope": 0.2}, only(ACTIVATION, "mlp"), "slope|number", in_blocks=False
    ),
    Mistake(
        "activation missing",
        {"activation": "none"},
        only(ACTIVATION, "mlp", "cnn", "bert", "mixer", "unet"),
        "activation",
    ),
    Mistake(
        "activation before the norm",
        {"order": "activation first"},
        {"cnn": "conv{n}|bn{n}", "lenet": "conv{n}|bn{n}"},
        "order",
    ),
    Mistake(
        "activation before the layer",
        {"order": "activation first"},
        {
            "vit": "layers.{at}.mlp*|layers.{at}.norm2",
            "mixer": "layers.{at}.token_mixing*|layers.{at}.norm1",
        },
        "order",
    ),
    Mistake(
        "hard sigmoid in the gates",
        {"activation": "hard_sigmoid"},
        CELL,
        "activation",
        in_blocks=False,
    ),
    Mistake("softcap of scores", {"softcap": 2.0}, only(ATTENTION, "llama", "gpt"), "softcap"),
    # Residuals and branches
    Mistake(
        "residual missing",
        {"missing": frozenset({"residual"})},
        {**BRANCH, "mlp": "fc2|norm|fc1", "resnet": RESNET, "convnext": CONVNEXT},
        "residual",
    ),
    Mistake(
        "residual halved",
        {"residual_factor": 0.5},
        {**only(BRANCH, "gpt", "mixer"), "resnet": RESNET, "convnext": CONVNEXT},
        "residual|factor",
    ),
    Mistake(
        "parallel branches",
        {"order": "parallel"},
        {"gpt": "layers.{at}*", "llama": "layers.{at}*"},
        "order",
    ),
    Mistake("activation before the sum", {"order": "sum last"}, {"resnet": RESNET}, "order"),
    Mistake(
        "stride in the second convolution",
        {"order": "stride last"},
        {"resnet": "layers.1.*"},
        "stride",
    ),
    Mistake(
        "layer scale missing",
        {"missing": frozenset({"layer scale"})},
        {"convnext": CONVNEXT},
        "missing|scale missing",
        verdict="part|abstain",
    ),
    Mistake(
        "norm of a block missing",
        {"missing": frozenset({"norm"})},
        {"convnext": "layers.{at}.norm|layers.{at}.dwconv|layers.{at}.mlp.fc1"},
        "norm missing|missing",
        verdict="part|abstain",
    ),
    Mistake(
        "layer applied twice",
        {"extra": frozenset({"second layer twice"})},
        {"mlp": "fc2|norm"},
        "repeated",
        in_blocks=False,
    ),
    Mistake(
        "one layer for all blocks",
        {"shared": frozenset({"mlp"})},
        {"vit": "layers.1.mlp*", "gpt": "layers.1.mlp*"},
        "sharing",
        in_blocks=False,
        verdict="part|abstain",
    ),
    Mistake(
        "one norm for all blocks",
        {"shared": frozenset({"norm1"})},
        {"vit": "layers.1.norm1", "bert": "layers.1.norm1"},
        "sharing",
        in_blocks=False,
        verdict="part|abstain",
    ),
    Mistake(
        "one attention for all blocks",
        {"shared": frozenset({"attn"})},
        {"gpt": "layers.1.attn*", "bert": "layers.1.attn*"},
        "sharing",
        in_blocks=False,
        verdict="part|abstain",
    ),
    # Biases
    Mistake(
        "bias of a dense layer missing",
        {"missing": frozenset({"fc1 bias"})},
        {"mlp": "fc1", "vit": "layers.{at}.mlp.fc1", "gpt": "layers.{at}.mlp.fc1"},
        "bias missing|missing",
        verdict="part|abstain",
    ),
    Mistake(
        "bias of the queries missing",
        {"missing": frozenset({"q bias"})},
        only(ATTENTION, "vit", "bert"),
        "bias missing|missing",
        verdict="part|abstain",
    ),
    Mistake(
        "bias of the values missing",
        {"missing": frozenset({"v bias"})},
        only(ATTENTION, "gpt"),
        "bias missing|missing",
        verdict="part|abstain",
    ),
    Mistake(
        "bias of a convolution missing",
        {"missing": frozenset({"conv bias"})},
        {"unet": "down{n}*", "cnn": "conv{n}|bn{n}"},
        "bias missing|missing",
        verdict="part|abstain",
    ),
)
