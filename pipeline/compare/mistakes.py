"""Where the models were wrong: confusion of classes, and the test samples that they found hardest."""

import base64
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from pipeline.compare.comparison import Comparison

ROOM = 3_000_000  # characters of the page for all of it; the runs that come first have it


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a model said of each test sample, as `predictions.npz` has it.

    Args:
        target: int64 `[n]`, the true class.
        predicted: int64 `[n]`.
        loss: float64 `[n]`.
        confidence: float64 `[n]`, the probability of what was predicted.
        worst: int64 `[k]`, positions of the largest losses.
        worst_images: uint8 `[k, height, width, channels]`; None where samples are no images.
    """

    target: np.ndarray
    predicted: np.ndarray
    loss: np.ndarray
    confidence: np.ndarray
    worst: np.ndarray
    worst_images: np.ndarray | None = None


def read_predictions(folder: Path) -> Predictions | None:
    """The predictions in a run's folder; None where there are none that can be read."""
    try:
        with np.load(folder / "predictions.npz", allow_pickle=False) as arrays:
            return Predictions(**arrays)
    except (OSError, EOFError, ValueError, TypeError, BadZipFile):
        return None


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
    classes = int(max(known.target.max(), known.predicted.max())) + 1
    counts = np.bincount(known.target * classes + known.predicted, minlength=classes**2)
    filled = np.flatnonzero(counts)
    cells = np.stack([filled // classes, filled % classes, counts[filled]], axis=1)
    return {
        "classes": classes,
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
