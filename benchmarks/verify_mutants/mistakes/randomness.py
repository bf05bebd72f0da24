"""Mistakes in random numbers, losses and batches."""

from benchmarks.verify_mutants.mistakes.mistake import TRAINING, Mistake
from benchmarks.verify_mutants.mistakes.places import (
    ATTENTION,
    BRANCH,
    CONVNEXT,
    DROPOUT,
    LOSS,
    only,
)

RANDOMNESS = (
    # Random numbers
    Mistake("dropout rate", {"dropout": 0.5}, DROPOUT, "dropout rate", part=TRAINING),
    Mistake(
        "dropout missing",
        {"dropouts": frozenset()},
        only(DROPOUT, "mlp", "vit", "gru", "mixer"),
        "dropout missing",
        part=TRAINING,
    ),
    Mistake(
        "dropout of the weights missing",
        {"dropouts": frozenset({"embedding", "branch", "head"})},
        only(ATTENTION, "vit", "gpt", "bert"),
        "dropout missing",
        part=TRAINING,
    ),
    Mistake(
        "dropout after the sum",
        {"dropouts": frozenset({"embedding", "attention", "sum", "head"})},
        only(BRANCH, "vit", "gpt"),
        "dropout place",
        part=TRAINING,
    ),
    Mistake(
        "dropout inside the perceptron",
        {"dropouts": frozenset({"embedding", "attention", "hidden", "head"})},
        {
            "bert": "layers.{at}.attn*|layers.{at}.norm1",
            "vit": "layers.{at}.attn*|layers.{at}.norm2",
        },
        "dropout place",
        part=TRAINING,
    ),
    Mistake(
        "dropout added",
        {"dropouts": frozenset({"branch"})},
        only(BRANCH, "llama", "t5"),
        "dropout added|dropout missing",
        part=TRAINING,
    ),
    Mistake(
        "dropout without its scale",
        {"dropout_scale": False},
        only(DROPOUT, "mlp", "mixer", "unet"),
        "dropout scale",
        part=TRAINING,
    ),
    Mistake(
        "dropout in evaluation",
        {"dropout_always": True},
        only(DROPOUT, "mlp", "cnn", "vit"),
        "dropout in evaluation",
        verdict="part|abstain",
    ),
    Mistake(
        "dropout of whole channels",
        {"dropout_shared": True},
        only(DROPOUT, "unet", "mixer"),
        "dropout shape",
        part=TRAINING,
        verdict="part|abstain",
    ),
    Mistake(
        "rate of dropped paths",
        {"drop_path": 0.3},
        {"convnext": CONVNEXT},
        "dropout rate",
        part=TRAINING,
    ),
    Mistake(
        "dropped paths missing",
        {"drop_path": 0.0},
        {"convnext": CONVNEXT},
        "dropout missing",
        part=TRAINING,
    ),
    Mistake(
        "size of the noise",
        {"noise": 0.5},
        {"mlp": "fc1"},
        "noise|number",
        in_blocks=False,
        part=TRAINING,
    ),
    # Losses
    Mistake(
        "sum of losses", {"loss": "sum"}, LOSS, "loss reduction", "loss|forward", in_blocks=False
    ),
    Mistake(
        "losses by sequence",
        {"loss": "per sequence"},
        only(LOSS, "gpt"),
        "loss reduction",
        "loss|forward",
        in_blocks=False,
    ),
    Mistake(
        "label smoothing",
        {"loss": "smoothed"},
        LOSS,
        "label smoothing",
        "loss|forward",
        in_blocks=False,
    ),
    Mistake(
        "labels not shifted",
        {"loss": "unshifted"},
        only(LOSS, "gpt"),
        "labels",
        "loss|forward",
        in_blocks=False,
    ),
    Mistake(
        "log softmax in the model",
        {"extra": frozenset({"log softmax"})},
        {"mlp": "head|logits"},
        "activation|log softmax",
        in_blocks=False,
    ),
    # Batches
    Mistake(
        "mean of the batch subtracted",
        {"extra": frozenset({"minus batch mean"})},
        {"mlp": "fc1|fc2", "gpt": "norm|tokens"},
        "batch",
        in_blocks=False,
        needs="batch",
    ),
)
