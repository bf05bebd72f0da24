"""Rows of the page, family by family, in the page's order."""

from collections.abc import Mapping, Sequence

from benchmarks.differences.families import (
    activations,
    attention,
    convolutions,
    functions,
    initializers,
    layers,
    losses,
    norms,
    optimizers,
    recurrent,
    resizing,
    schedules,
)
from benchmarks.differences.row import Row

FAMILIES: Mapping[str, Sequence[Row]] = {
    "Activations": activations.ROWS,
    "Dense layers, embeddings, dropout": layers.ROWS,
    "Convolutions and pools": convolutions.ROWS,
    "Norms": norms.ROWS,
    "Attention": attention.ROWS,
    "Recurrent layers": recurrent.ROWS,
    "Resizing of images": resizing.ROWS,
    "Functions of arrays": functions.ROWS,
    "Losses": losses.ROWS,
    "Optimizers, clipping, averages": optimizers.ROWS,
    "Learning-rate schedules": schedules.ROWS,
    "Initial values": initializers.ROWS,
}
