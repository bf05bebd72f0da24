"""Mistakes in norms."""

from benchmarks.verify_mutants.mistakes.mistake import BUFFERS, TRAINING, Mistake
from benchmarks.verify_mutants.mistakes.places import BATCH_NORM, BRANCH, NORM, only

NORMS = (
    # Norms
    Mistake("epsilon", {"epsilon": 1e-3}, NORM, "epsilon"),
    Mistake(
        "epsilon of another framework",
        {"epsilon": 1e-5},
        only(NORM, "vit", "llama", "bert", "convnext"),
        "epsilon",
    ),
    Mistake(
        "epsilon outside the root",
        {"epsilon_place": "outside"},
        only(NORM, "gpt", "cnn", "llama", "t5", "unet", "mixer"),
        "epsilon outside",
    ),
    Mistake(
        "unbiased variance",
        {"variance": "unbiased"},
        only(NORM, "gpt", "vit", "bert", "mlp", "unet"),
        "variance",
    ),
    Mistake(
        "unbiased variance in batch norm",
        {"variance": "unbiased"},
        only(NORM, "cnn", "resnet"),
        "variance",
        part=TRAINING,
    ),
    Mistake("momentum the other way round", {"momentum": 0.9}, BATCH_NORM, "momentum", BUFFERS),
    Mistake("momentum", {"momentum": 0.01}, only(BATCH_NORM, "cnn", "resnet"), "momentum", BUFFERS),
    Mistake(
        "running variance biased",
        {"running_variance": "biased"},
        BATCH_NORM,
        "running variance",
        BUFFERS,
    ),
    Mistake(
        "running statistics in training",
        {"statistics": "never"},
        only(BATCH_NORM, "cnn", "resnet"),
        "statistics",
        part=TRAINING,
    ),
    Mistake(
        "statistics of the batch in evaluation",
        {"statistics": "always"},
        only(BATCH_NORM, "cnn", "resnet"),
        "statistics",
    ),
    Mistake(
        "norm over all axes",
        {"norm_axes": "all"},
        only(NORM, "gpt", "vit", "convnext", "mixer"),
        "norm axes",
    ),
    Mistake(
        "root mean square for layer norm",
        {"norm": "rms"},
        only(NORM, "vit", "gpt"),
        "norm kind",
        verdict="part|abstain",
    ),
    Mistake(
        "offset of the factor",
        {"norm_offset": 1.0},
        only(NORM, "llama", "t5", "cnn"),
        "norm offset",
    ),
    Mistake("number of groups", {"groups": 2}, only(NORM, "unet", "upsampler"), "groups"),
    Mistake(
        "channels of a group",
        {"group_order": "strided"},
        only(NORM, "unet"),
        "groups",
        relabels=True,
    ),
    Mistake(
        "post-norm",
        {"norm_place": "post"},
        only(BRANCH, "vit", "gpt"),
        "norm order",
        verdict="part|abstain",
    ),
    Mistake(
        "pre-norm",
        {"norm_place": "pre"},
        {"bert": "layers.{at}*"},
        "norm order",
        verdict="part|abstain",
    ),
    Mistake(
        "sum with the norm's result",
        {"norm_place": "input"},
        only(BRANCH, "gpt", "llama"),
        "residual|norm order",
    ),
    Mistake(
        "final norm missing",
        {"missing": frozenset({"final norm"})},
        {
            "vit": "norm|head|layers.1*",
            "gpt": "norm|tokens|layers.1*",
            "llama": "norm|head|layers.1*",
            "mlp": "norm|head",
            "convnext": "norm|head",
            "mixer": "norm|head|layers.1*",
        },
        "norm missing|missing",
        in_blocks=False,
        verdict="part|abstain",
    ),
    Mistake(
        "norm without a summand",
        {"missing": frozenset({"norm bias"})},
        only(NORM, "gpt", "mixer"),
        "bias missing|missing",
        verdict="part|abstain",
    ),
)
