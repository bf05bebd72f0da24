"""Where the models were wrong: confusion of classes, and the test samples that they found hardest."""

import base64
import struct
import zlib
from typing import Any

import numpy as np

from pipeline.compare.comparison import Comparison
from pipeline.predictions import Predictions, read_predictions

ROOM = 3_000_000  # characters of the page for all of it; the runs that come first have it


def mistakes(made: Comparison) -> dict[str, Any]:
    """The mistakes of every run that has predictions, as far as there is room, and of each pair on how
    many samples its two runs do not say the same."""
    found: dict[int, dict[str, Any]] = {}
    room, left_out = ROOM, 0
    read = {position: read_predictions(made.records[position].folder) for position in order(made)}
    for position, known in read.items():
        if known is None or not len(known.target):
            continue
        told = mistakes_of(known)
        room -= sum(map(size_of, told.values()))
        if room > 0:
            found[position] = told
        else:
            left_out += 1
    apart = [
        {"runs": pair.runs, "samples": samples, "count": len(read[pair.runs[0]].target)}
        for pair in made.pairs
        if (samples := disagreement(*(read[position] for position in pair.runs))) is not None
    ]
    return {"runs": found, "pairs": apart, "left_out": left_out}


def order(made: Comparison) -> list[int]:
    """The positions of the runs, pair by pair, so that there is room for both of a pair or for none."""
    paired = [position for pair in made.pairs for position in pair.runs]
    return list(dict.fromkeys([*paired, *range(len(made.records))]))


def mistakes_of(known: Predictions) -> dict[str, Any]:
    """The mistakes of one run; of the confusion only what is not zero: true, predicted, samples."""
    confusion = known.confusion(len(known.names))
    true, predicted = np.nonzero(confusion)
    cells = np.stack([true, predicted, confusion[true, predicted]], axis=1)
    return {
        "classes": known.names,
        "samples": len(known.target),
        "wrong": int((known.target != known.predicted).sum()),
        "cells": cells.tolist(),
        "worst": [worst(known, place) for place in range(len(known.worst))],
    }


def worst(known: Predictions, place: int) -> dict[str, Any]:
    """One of the samples that a model found hardest."""
    at = known.worst[place]
    images = known.worst_images
    return {
        "sample": int(at),
        "target": int(known.target[at]),
        "predicted": int(known.predicted[at]),
        "confidence": finite(known.confidence[at]),
        "loss": finite(known.loss[at]),
        "image": None if images is None else png(images[place]),
    }


def finite(value: float) -> float | None:
    """A number with three digits after the point; None for what is none."""
    return round(float(value), 3) if np.isfinite(value) else None


def size_of(part: Any) -> int:
    """About how many characters a part of the payload takes."""
    return len(str(part))


def disagreement(first: Predictions | None, second: Predictions | None) -> int | None:
    """On how many samples two models say different things; None where they saw different ones."""
    if first is None or second is None or not np.array_equal(first.target, second.target):
        return None
    return int((first.predicted != second.predicted).sum())


def png(image: np.ndarray) -> str:
    """A picture as the address of itself.

    Args:
        image: uint8 `[height, width, channels]`; of other than 3 channels the first is shown.
    """
    pixels = image if image.shape[2] == 3 else image[:, :, :1]
    height, width, channels = pixels.shape
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # each begins with its filter: none
    rows[:, 1:] = pixels.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")]
    file = b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)
    return f"data:image/png;base64,{base64.b64encode(file).decode()}"


def chunk(kind: bytes, content: bytes) -> bytes:
    """A part of a PNG file."""
    sum_of = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", sum_of)
