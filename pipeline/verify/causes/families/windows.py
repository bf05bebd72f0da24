"""Causes: windows of convolutions and poolings, and how sizes are changed."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from pipeline.verify.causes.candidate import Candidate
from pipeline.verify.causes.flow import Flow
from pipeline.verify.causes.words import PRODUCTS, at
from pipeline.verify.sides.subject import Edit
from pipeline.verify.trace.graph import Window

ZEROS = {"constant_pad_nd", "pad"}  # operations that pad with a constant


def propose_windows(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose the other side's windows."""
    windows = {place: theirs.ops[place].window for place in theirs.region}
    for place in [*ours.region, *ours.exits]:
        mine = ours.ops[place].window
        if mine is None:
            continue
        for other, window in windows.items():
            if window is None or len(window.size) != len(mine.size):
                continue
            for change in _changes(mine, window):
                yield _candidate(ours, theirs, (place, other), change)
        if mine.kind == "mean":
            change = replace(mine, counts_padding=not mine.counts_padding)
            yield _counting(ours, place, Edit(place, window=change), mine.counts_padding)
    yield from _paddings(ours, theirs)
    yield from _counts(ours)


def _changes(mine: Window, other: Window) -> Iterator[Window]:
    """Yield windows of ours with what the other side has."""
    kinds = mine.kind, other.kind
    if kinds == ("conv", "conv"):
        # The padding may be an operation of its own on one side.
        steps = replace(mine, stride=other.stride, dilation=other.dilation)
        changes = [other, steps] if mine.size == other.size else []
    elif "conv" in kinds or (mine.kind == "sum" and other.kind != "sum"):
        changes = []
    else:
        kind = "mean" if mine.kind != "sum" and other.kind == "sum" else other.kind
        changes = [replace(other, kind=kind, counts_padding=counts) for counts in (True, False)]
    yield from (change for change in changes if change != mine)


def _candidate(ours: Flow, theirs: Flow, places: tuple[int, int], window: Window) -> Candidate:
    place, other = places
    mine = ours.ops[place].window
    assert mine is not None
    name, words = _difference(mine, window)
    difference = f"{at(ours, place)} has {words(mine)}, {at(theirs, other)} {words(window)}"
    return Candidate(
        name, (Edit(place, window=window),), difference, f"{words(window)} on the {ours.name}"
    )


def _difference(mine: Window, other: Window):  # noqa: ANN202
    """Return the first property in which two windows differ, and a function that describes it."""
    kinds = {"mean", "sum"}
    if mine.kind != other.kind and not {mine.kind, other.kind} <= kinds:
        names = {"max": "max pooling", "mean": "average pooling", "sum": "average pooling"}
        return "pooling kind", lambda w: names.get(w.kind, w.kind)
    if mine.size != other.size:
        return "window size", lambda w: f"windows of {_each(w.size)}"
    if mine.stride != other.stride or mine.spread != other.spread:
        return (
            "stride",
            lambda w: f"stride {_each(w.stride if w.stride != (1,) * len(w.stride) else w.spread)}",
        )
    if mine.dilation != other.dilation:
        return "dilation", lambda w: f"dilation {_each(w.dilation)}"
    if mine.padding != other.padding:
        starts = [tuple(pair[0] for pair in w.padding) for w in (mine, other)]
        ends = [tuple(pair[1] for pair in w.padding) for w in (mine, other)]
        if starts[0] == starts[1] and ends[0] != ends[1] and mine.kind != "conv":
            return "ceil mode", lambda w: f"padding of {_pairs(w)} (ceil_mode)"
        return "padding", lambda w: f"padding of {_pairs(w)}"
    return (
        "average pool counts padding",
        lambda w: "averages that count padding" if w.counts_padding else "averages without padding",
    )


def _each(values: tuple[int, ...]) -> str:
    return str(values[0]) if len(set(values)) == 1 else "×".join(map(str, values))


def _pairs(window: Window) -> str:
    pairs = list(dict.fromkeys(window.padding))
    if len(pairs) == 1 and pairs[0][0] == pairs[0][1]:
        return f"{pairs[0][0]} on each side"
    words = [f"{low} before and {high} behind" for low, high in window.padding]
    text = words[0] if len(pairs) == 1 else "; ".join(words)
    is_same = any(low < high for low, high in window.padding)
    return f"{text} (as SAME)" if is_same and window.kind == "conv" else text


def _paddings(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose zeros in place of a padding that is an operation of its own: reflected, circular."""
    known = [op.window for op in map(theirs.ops.__getitem__, theirs.region) if op.window]
    region, seen = set(ours.region), set()
    for place in ours.region:
        window = ours.ops[place].window
        data = [p for p in ours.ops[place].inputs if p in region and ours.only_moves(p)]
        if window is None or not data:
            continue
        for source in ours.sources(data[0]):
            group = ours.between(source, data[0])
            if not all(map(ours.only_moves, group)):
                break
            name = "padding" if {ours.ops[p].name for p in group} & ZEROS else "padding mode"
            shapes = ours.ops[source].shape, ours.ops[data[0]].shape
            for change in (*_with_zeros(window, *shapes), *known):
                change = replace(change, kind=window.kind)
                if change.size != window.size or (place, source, change) in seen:
                    continue
                seen.add((place, source, change))
                edit = Edit(place, window=change, operands={data[0]: source})
                others = (change.stride != window.stride, change.dilation != window.dilation)
                cause = "stride" if others[0] else "dilation" if others[1] else name
                words = f"zeros, {_pairs(change)}"
                if any(others):
                    words += f", stride {_each(change.stride)}, dilation {_each(change.dilation)}"
                difference = (
                    f"{at(ours, place)} pads in another way than {theirs.name}, which has {words}"
                )
                yield Candidate(cause, (edit,), difference, f"{words} on the {ours.name}")


def _with_zeros(
    window: Window, before: tuple[int, ...], after: tuple[int, ...]
) -> Iterator[Window]:
    """Yield windows that pad with zeros by as much as an operation before them pads."""
    sizes = [b - a for a, b in zip(before, after, strict=False) if a != b]
    if len(before) != len(after) or len(sizes) != len(window.size):
        return
    for share in (0.5, 0.0, 1.0):
        added = [(int(share * size), size - int(share * size)) for size in sizes]
        padding = tuple(
            (low + more[0], high + more[1])
            for (low, high), more in zip(window.padding, added, strict=True)
        )
        yield replace(window, padding=padding)


def _counts(ours: Flow) -> Iterator[Candidate]:
    """Propose that an average divides by the whole window, in place of a table of counts."""
    for place in ours.region:
        op = ours.ops[place]
        tables = [p for p in op.inputs if not ours.depends[p] and ours.ops[p].shape]
        if op.name not in PRODUCTS or not tables or ours.ops[tables[0]].fingerprint is None:
            continue
        table = ours.value(tables[0])
        if (table != np.round(table)).any() or table.min() < 1 or table.min() == table.max():
            continue  # no numbers of elements
        edit = Edit(tables[0], value=np.full(table.shape, table.max()))
        yield _counting(ours, place, edit, False)


def _counting(ours: Flow, place: int, edit: Edit, counts: bool) -> Candidate:
    words = "counts padding as values" if counts else "leaves padding out"
    difference = f"the average of {at(ours, place)} {words}, that of the other side does not"
    if not counts:
        difference = (
            f"the average of {at(ours, place)} {words}, that of the other side counts it as values"
        )
    remedy = f"count_include_pad={not counts} on the {ours.name}"
    return Candidate("average pool counts padding", (edit,), difference, remedy)
