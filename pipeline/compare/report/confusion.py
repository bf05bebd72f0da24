"""Mistakes of the models on the test set: confusion matrices, and the samples with the largest loss."""

from base64 import b64encode
from io import BytesIO

import numpy as np
from PIL import Image

from pipeline.compare.comparison import Comparison
from pipeline.formatting import finite
from pipeline.storage.predictions import Predictions, read_predictions

ROOM = 3_000_000  # characters of the page for the mistakes of all runs; further runs are left out


def mistakes(made: Comparison) -> dict[str, object]:
    """Return the mistakes of the runs with predictions, as far as `ROOM` allows.

    For each pair also return the number of samples on which its runs disagree.
    """
    found: dict[int, dict[str, object]] = {}
    room, left_out = ROOM, 0
    # Pair by pair: both of a pair fit on the page, or neither.
    paired = [position for pair in made.pairs for position in pair.runs]
    order = dict.fromkeys([*paired, *range(len(made.records))])
    read = {position: read_predictions(made.records[position].folder) for position in order}
    for position, known in read.items():
        if known is None or not len(known.target):
            continue
        run = mistakes_of(known)
        room -= sum(len(str(part)) for part in run.values())
        if room > 0:
            found[position] = run
        else:
            left_out += 1
    pairs = []
    for pair in made.pairs:
        first, second = (read[position] for position in pair.runs)
        if first and second and np.array_equal(first.target, second.target):
            samples = int((first.predicted != second.predicted).sum())
            pairs.append({"runs": pair.runs, "samples": samples, "count": len(first.target)})
    return {"runs": found, "pairs": pairs, "left_out": left_out}


def mistakes_of(known: Predictions) -> dict[str, object]:
    """Return the mistakes of one run; `cells` are the non-zero counts: true, predicted, samples."""
    confusion = known.confusion(len(known.names))
    images = known.worst_images
    true, predicted = np.nonzero(confusion)
    cells = np.stack([true, predicted, confusion[true, predicted]], axis=1)
    return {
        "classes": known.names,
        "samples": len(known.target),
        "wrong": int((known.target != known.predicted).sum()),
        "cells": cells.tolist(),
        "worst": [
            {
                "sample": int(at),
                "target": int(known.target[at]),
                "predicted": int(known.predicted[at]),
                "confidence": finite(round(float(known.confidence[at]), 3)),
                "loss": finite(round(float(known.loss[at]), 3)),
                "image": None if images is None else png(images[place]),
            }
            for place, at in enumerate(known.worst)
        ],
    }


def png(image: np.ndarray) -> str:
    """Encode an image uint8 `[height, width, channels]` as a data URL: 3 channels, or only the first."""
    file = BytesIO()
    pixels = image if image.shape[2] == 3 else image[:, :, 0]
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"
