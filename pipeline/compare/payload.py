"""A comparison as plain JSON, as the page takes it: numbers short, and none that JSON does not know."""

import math
import os
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.announce import number
from pipeline.compare.colours import Colours, colours
from pipeline.compare.columns import columns
from pipeline.compare.comparison import Comparison, config_differences
from pipeline.compare.curves import Curve
from pipeline.compare.headline import cards, sentences
from pipeline.compare.mistakes import mistakes
from pipeline.compare.naming import short
from pipeline.compare.records import Record
from pipeline.compare.statistics import Effect

DIGITS, OF_GAPS = 6, 3  # significant ones, of curves and of differences


def payload(made: Comparison) -> dict[str, Any]:
    """Everything that the page shows."""
    folder = common_folder(made.records)
    coloured = colours(made)
    return {
        "title": folder.name or str(folder),
        "folder": str(folder),
        "made": datetime.now().astimezone().isoformat(timespec="seconds"),
        "sentences": sentences(made),
        "cards": cards(made),
        "notes": notes(made),
        "runs": [run(made, position, coloured) for position in range(len(made.records))],
        "colours": {"ranked": coloured.ranked, "labels": coloured.labels},
        "columns": table(made),
        "metrics": metrics(made),
        "pairs": pairs(made),
        "answer": answer(made),
        "axes": axes(made),
        "mistakes": mistakes(made),
        "settings": {
            "config": config_differences(made),
            "facts": facts(made.records),
        },
    }


def common_folder(records: Sequence[Record]) -> Path:
    """The folder that all runs lie in; of one run its own."""
    return Path(os.path.commonpath([record.folder.absolute() for record in records]))


def notes(made: Comparison) -> list[dict[str, Any]]:
    """What is wrong: with a run, where it is told, or with all."""
    found: list[dict[str, Any]] = [{"run": None, "text": note} for note in made.notes]
    for position, record in enumerate(made.records):
        if error := record.result.get("error"):
            found.append({"run": position, "text": str(error), "error": True})
        found += [{"run": position, "text": note} for note in record.notes]
    return found


def run(made: Comparison, position: int, coloured: Colours) -> dict[str, Any]:
    """A run: who it is, how it is drawn, its time and its curves."""
    record = made.records[position]
    partners = [p for pair in made.pairs if position in pair.runs for p in pair.runs]
    return {
        "name": record.name,
        "status": record.status,
        "backend": record.backend,
        "folder": str(record.folder),
        "words": f"{record.name} {record.status} {record.backend} {record.folder.name}".split(),
        "colour": coloured.of[position],
        "partner": next((p for p in partners if p != position), None),
        "batch": record.config.get("train.batch_size"),
        "throughput": short_number(record.result.get("throughput")),
        "memory": short_number(record.result.get("peak_memory_mb")),
        "seconds": {key: short_number(value) for key, value in record.part("seconds").items()},
        "devices": str(record.result.get("devices") or "–"),
        "curves": {
            key: curve_of(curve)
            for key, curve in record.reading.curves.items()
            if not key.startswith("test/")
        },
    }


def curve_of(curve: Curve, digits: int = DIGITS) -> dict[str, list]:
    """A curve as lists: steps, values, and seconds where they were logged."""
    seconds = {}
    if np.isfinite(curve.seconds).any():
        seconds["t"] = short_numbers(curve.seconds)
    return {"s": curve.step.tolist(), "v": short_numbers(curve.value, digits)} | seconds


def short_numbers(values: np.ndarray, digits: int = DIGITS) -> list[float | int | None]:
    """Numbers with so many significant digits; None for what is none."""
    return [short_number(value, digits) for value in values.tolist()]


def short_number(value: Any, digits: int = DIGITS) -> float | int | None:
    """A number with so many significant digits; None for what is none, or has no end."""
    if not isinstance(value, float | int) or not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def table(made: Comparison) -> list[dict[str, Any]]:
    """The table of runs, column by column; one without a value in any run is left out."""
    found = []
    for column in columns(made)[2:]:  # the page tells name and status in its own way
        values = [column.of(record) for record in made.records]
        if any(value is not None and value == value for value in values):
            found.append(
                {
                    "title": column.title,
                    "values": [short_number(value, 12) for value in values],
                    "texts": [column.text(record) for record in made.records],
                }
            )
    return found


def judged_by(made: Comparison) -> list[str]:
    """The metrics by which runs were judged, that of most runs first."""
    metrics = Counter(record.best.get("metric") for record in made.records)
    return [metric for metric, _ in metrics.most_common() if metric]


def metrics(made: Comparison) -> dict[str, Any]:
    """What can be drawn over the steps, and the two that are drawn first."""
    keys = Counter(
        key
        for record in made.records
        for key in record.reading.curves
        if not key.startswith("test/")
    )
    first = [key for key in judged_by(made) if key in keys]
    wanted = [*first[:1], "val/loss", "train/loss", *keys]
    shown = list(dict.fromkeys(key for key in wanted if key in keys))
    chosen = [key for key in (*first[:1], "train/loss") if key in keys]
    return {"keys": sorted(keys), "shown": list(dict.fromkeys([*chosen, *shown]))[:2]}


def pairs(made: Comparison) -> list[dict[str, Any]]:
    """The pairs with their verdicts and how far they are apart."""
    return [
        {
            "runs": pair.runs,
            "name": pair.name,
            "same": pair.same,
            "words": pair.words,
            "gaps": {
                key: curve_of(gap.curve, OF_GAPS)
                | {"worst": number(float(f"{gap.worst:.{OF_GAPS}g}")), "step": gap.step}
                for key, gap in pair.gaps.items()
            },
        }
        for pair in made.pairs
    ]


def answer(made: Comparison) -> dict[str, Any]:
    """What may be said over seeds, in words and in numbers."""
    keys = list(dict.fromkeys(key for group in made.seeds for key in group.estimates))
    return {
        "keys": keys,
        "seeds": [
            {
                "name": group.name,
                "count": len(group.runs),
                "texts": [
                    group.estimates[key].words if key in group.estimates else "–" for key in keys
                ],
            }
            for group in made.seeds
        ],
        "effects": [one_effect(effect) for effect in made.effects],
        "parities": made.parities,
    }


def one_effect(effect: Effect) -> dict[str, Any]:
    """A difference between the backends; a ratio by its logarithm to base 2, so that none lies at zero."""
    ends = [effect.estimate.low, effect.estimate.mean, effect.estimate.high]
    if effect.ratio:
        ends = [math.log2(end) if end > 0 else math.nan for end in ends]
    return {
        "setting": effect.setting,
        "key": effect.key,
        "words": effect.words,
        "shown": effect.shown,
        "ratio": effect.ratio,
        "ends": [short_number(end) for end in ends],
    }


def axes(made: Comparison) -> list[dict[str, Any]]:
    """What differs between the runs and what came of it: the axes of the parallel coordinates."""
    configs = [record.config for record in made.records]
    found = [
        {"title": short(key), "values": [plain(config.get(key)) for config in configs]}
        for key in made.varied
    ]
    if len(found) < 2:
        return []
    for metric in judged_by(made):
        values = [short_number(record.best_value(metric)) for record in made.records]
        found.append({"title": f"best {metric}", "values": values})
    for key in made.tests:
        values = [short_number(record.test.get(key)) for record in made.records]
        found.append({"title": key, "values": values})
    seconds = [short_number(record.part("seconds").get("total")) for record in made.records]
    return [*found, {"title": "seconds", "values": seconds}]


def plain(value: Any) -> float | int | str | None:
    """A value of a config: a number that has an end, or text."""
    if value is None or (isinstance(value, float | int) and not isinstance(value, bool)):
        return short_number(value)
    return str(value)


def facts(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Versions, hardware and devices, each once, with the runs that had them."""
    found: dict[tuple[str, str], list[int]] = {}
    for position, record in enumerate(records):
        known = {key: words(record.part(key)) for key in ("versions", "hardware")}
        known["devices"] = str(record.result.get("devices") or "")
        for key, text in known.items():
            if text:
                found.setdefault((key, text), []).append(position)
    return [{"key": key, "text": text, "runs": runs} for (key, text), runs in found.items()]


def words(part: dict[str, Any]) -> str:
    """A part of a result on one line."""
    return ", ".join(f"{key} {value}" for key, value in part.items())
