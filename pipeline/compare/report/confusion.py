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
    found: dict[int, dict[str, object] | None] = {}  # None of a run that is left out
    room = ROOM
    pairs = []
    # Pair by pair: both of a pair fit on the page, or neither; and no more than two are in memory.
    for together in dict.fromkeys([*(pair.runs for pair in made.pairs), *alone(made)]):
        read = [read_predictions(made.records[position].folder) for position in together]
        for position, known in zip(together, read, strict=True):
            if known is None or not len(known.target) or position in found:
                continue
            run = mistakes_of(known) if room > 0 else None
            room -= sum(len(str(part)) for part in run.values()) if run else 0
            found[position] = run if room > 0 else None
        if (
            len(read) == 2
            and read[0]
            and read[1]
            and np.array_equal(read[0].target, read[1].target)
        ):
            samples = int((read[0].predicted != read[1].predicted).sum())
            pairs.append({"runs": together, "samples": samples, "count": len(read[0].target)})
    shown = {position: run for position, run in found.items() if run}
    return {"runs": shown, "pairs": pairs, "left_out": len(found) - len(shown)}


def alone(made: Comparison) -> list[tuple[int]]:
    """Return the positions of the runs that are in no pair."""
    paired = {position for pair in made.pairs for position in pair.runs}
    return [(position,) for position in range(len(made.records)) if position not in paired]


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
