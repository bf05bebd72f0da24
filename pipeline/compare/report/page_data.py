"""The data of the page: a comparison as JSON, with short numbers and without NaN or infinity."""

import math
import os
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from pipeline.backend_specs import in_order
from pipeline.compare.colours import colours
from pipeline.compare.columns import columns
from pipeline.compare.comparison import Comparison, config_differences
from pipeline.compare.conditions import columns_of, conditions, unlike
from pipeline.compare.curves import Curve
from pipeline.compare.headline import cards, sentences
from pipeline.compare.naming import short
from pipeline.compare.records import Record
from pipeline.compare.report.confusion import mistakes
from pipeline.compare.report.pictures import pictures
from pipeline.formatting import format_number

DIGITS, GAP_DIGITS = 6, 3  # significant digits of curves and of differences

Json = dict[str, object]


def page_data(made: Comparison) -> Json:
    """Return all data of the page."""
    # The folder of all runs; the run itself if there is one.
    folder = Path(os.path.commonpath([record.folder.absolute() for record in made.records]))
    coloured, partner = colours(made), partners(made)
    return {
        "title": folder.name or str(folder),
        "folder": str(folder),
        "made": datetime.now().astimezone().isoformat(timespec="seconds"),
        "sentences": sentences(made),
        "cards": cards(made),
        "notes": notes(made),
        "runs": [
            run(record, coloured.of[position], partner.get(position))
            for position, record in enumerate(made.records)
        ],
        "colours": {"ranked": coloured.ranked, "labels": coloured.labels},
        "columns": table(made),
        "metrics": metrics(made),
        "pairs": pairs(made),
        "speed": speed(made),
        "answer": answer(made),
        "axes": axes(made),
        "pictures": pictures(made),
        "mistakes": mistakes(made),
        "settings": {"config": config_differences(made), "facts": facts(made.records)},
    }


def notes(made: Comparison) -> list[Json]:
    """Return errors and warnings, with the run of each; None for all runs."""
    found: list[Json] = [{"run": None, "text": note} for note in made.notes]
    for position, record in enumerate(made.records):
        if error := record.result.error:
            found.append({"run": position, "text": error, "error": True})
        found.extend({"run": position, "text": note} for note in record.notes)
    return found


def partners(made: Comparison) -> dict[int, int]:
    """Return for each run in a pair the position of the other; of its first pair, if it is in several."""
    found: dict[int, int] = {}
    for first, second in (pair.runs for pair in made.pairs):
        found.setdefault(first, second)
        found.setdefault(second, first)
    return found


def run(record: Record, colour: int | None, partner: int | None) -> Json:
    """Return a run: its name, times and curves, the index of its colour and the position of its partner."""
    return {
        "name": record.name,
        "status": record.status,
        "backend": record.backend,
        "folder": str(record.folder),
        "words": f"{record.name} {record.status} {record.backend} {record.folder.name}".split(),
        "colour": colour,
        "partner": partner,
        "batch": record.config.get("train.batch_size"),
        "throughput": short_number(record.result.throughput),
        "memory": short_number(record.result.peak_memory_mb),
        "seconds": {key: short_number(value) for key, value in record.result.seconds.items()},
        "devices": record.result.devices or "–",
        "fallback": record.result.fallback,
        "curves": {
            key: curve_of(curve)
            for key, curve in record.reading.curves.items()
            if not key.startswith("test/")
        },
    }


def curve_of(curve: Curve, digits: int = DIGITS) -> dict[str, list]:
    """Return a curve as lists: steps `s`, values `v`, and seconds `t` if they were logged."""
    lists = {"s": curve.step.tolist(), "v": [short_number(v, digits) for v in curve.value.tolist()]}
    if np.isfinite(curve.seconds).any():
        lists["t"] = [short_number(second) for second in curve.seconds.tolist()]
    return lists


def short_number(value: object, digits: int = DIGITS) -> float | int | None:
    """Round a number to significant digits; None for NaN, infinity and other types."""
    if not isinstance(value, float | int) or not math.isfinite(value):
        return None
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() and abs(rounded) < 1e15 else rounded


def table(made: Comparison) -> list[Json]:
    """Return the table of runs, column by column, without empty columns."""
    found: list[Json] = []
    for column in columns(made)[2:]:  # the page has its own cells for name and status
        values = [column.of(record) for record in made.records]
        texts = [column.text(record) for record in made.records]
        if any(value is not None and value == value for value in values):
            numbers = [short_number(value, 12) for value in values]
            found.append({"title": column.title, "values": numbers, "texts": texts})
    return found


def judged_by(made: Comparison) -> list[str]:
    """Return the monitored metrics, the most frequent first."""
    metrics = Counter(record.best.metric for record in made.records)
    return [metric for metric, _ in metrics.most_common() if metric]


def metrics(made: Comparison) -> Json:
    """Return the keys of all curves, and the two that are shown first."""
    logged = dict.fromkeys(key for record in made.records for key in record.reading.curves)
    keys = [key for key in logged if not key.startswith("test/")]
    first = [key for key in judged_by(made) if key in keys][:1]
    wanted = dict.fromkeys([*first, "train/loss", "val/loss", *keys])
    return {"keys": sorted(keys), "shown": [key for key in wanted if key in keys][:2]}


def pairs(made: Comparison) -> list[Json]:
    """Return the pairs with their verdicts and differences."""
    found: list[Json] = []
    for pair in made.pairs:
        gaps: Json = {}
        for key, gap in pair.gaps.items():
            worst = format_number(float(f"{gap.worst:.{GAP_DIGITS}g}"))
            gaps[key] = curve_of(gap.curve, GAP_DIGITS) | {"worst": worst, "step": gap.step}
        known = {key: getattr(pair, key) for key in ("runs", "name", "same", "words")}
        found.append(known | {"gaps": gaps})
    return found


def speed(made: Comparison) -> Json:
    """Return the backends in their order, the conditions of the speeds, and a sentence if they are unlike."""
    found = conditions(made.records)
    keys = columns_of(found)
    rows = [{"texts": [one.values[key] for key in keys], "runs": one.runs} for one in found]
    backends = in_order(record.backend for record in made.records if record.backend)
    return {"backends": backends, "unlike": unlike(found), "keys": keys, "rows": rows}


def answer(made: Comparison) -> Json:
    """Return the statistics over seeds or folds, as sentences and numbers."""
    keys = list(dict.fromkeys(key for group in made.seeds for key in group.estimates))
    seeds: list[Json] = []
    for group in made.seeds:
        estimates = [group.estimates.get(key) for key in keys]
        texts = [estimate.words if estimate else "–" for estimate in estimates]
        seeds.append({"name": group.name, "count": len(group.runs), "texts": texts})
    effects: list[Json] = []
    for effect in made.effects:
        known = {key: getattr(effect, key) for key in ("setting", "key", "words", "shown", "ratio")}
        ends = [effect.estimate.low, effect.estimate.mean, effect.estimate.high]
        if effect.ratio:  # as the base-2 logarithm, so that 1 is at zero
            ends = [math.log2(end) if end > 0 else math.nan for end in ends]
        effects.append(known | {"ends": [short_number(end) for end in ends]})
    facts: Json = {"keys": keys, "repeats": made.repeats, "parities": made.parities}
    return facts | {"seeds": seeds, "effects": effects}


def axes(made: Comparison) -> list[Json]:
    """Return the axes of the parallel coordinates: the keys that differ, and the results."""
    configs = [record.config for record in made.records]
    found: list[Json] = [
        {"title": short(key), "values": [plain(config.get(key)) for config in configs]}
        for key in made.varied
    ]
    if len(found) < 2:
        return []
    records = made.records
    results = {f"best {key}": [run.best_value(key) for run in records] for key in judged_by(made)}
    results |= {key: [run.result.test.get(key) for run in records] for key in made.tests}
    results["seconds"] = [run.result.seconds.get("total") for run in records]
    return found + [
        {"title": title, "values": [*map(short_number, values)]}
        for title, values in results.items()
    ]


def plain(value: object) -> float | int | str | None:
    """Return a value of a config as a finite number or as text."""
    if value is None or (isinstance(value, float | int) and not isinstance(value, bool)):
        return short_number(value)
    return str(value)


def facts(records: Sequence[Record]) -> list[Json]:
    """Return versions, hardware and devices, each once, with its runs."""
    found: dict[tuple[str, str], list[int]] = {}
    for position, record in enumerate(records):
        texts = {"versions": "", "hardware": "", "devices": record.result.devices}
        for kind in ("versions", "hardware"):
            part = getattr(record.result, kind)
            texts[kind] = ", ".join(f"{key} {value}" for key, value in part.items())
        for key, text in texts.items():
            if text:
                found.setdefault((key, text), []).append(position)
    return [{"key": key, "text": text, "runs": runs} for (key, text), runs in found.items()]
