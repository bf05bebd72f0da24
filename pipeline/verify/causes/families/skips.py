"""Causes: an operation, or several, that one side alone has."""

from collections.abc import Iterator

import numpy as np

from pipeline.verify.causes.candidate import Candidate, spread
from pipeline.verify.causes.families.ratios import kind_of_factor, ratio
from pipeline.verify.causes.flow import MATRICES, Flow
from pipeline.verify.causes.words import PRODUCTS, WAVES, at, kind_of
from pipeline.verify.sides.subject import Edit

ADDITIONAL = {
    "norm": "missing norm",
    "dropout": "missing dropout",
    "residual": "missing residual",
    "bias": "missing bias",
    "rotary": "missing rotary positions",
    "scale": "missing scale",
    "mask": "mask ignored",
    "softmax": "missing softmax",
    "summand": "missing summand",
}


def propose_skips(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose that ours has an operation, or a group of them, that the other side lacks."""
    for place in ours.region:
        inputs = [p for p in ours.ops[place].inputs if ours.depends[p]]
        if ours.ops[place].only_moves:
            continue
        for source in dict.fromkeys([*inputs, *ours.sources(place)]):
            if ours.ops[source].shape != ours.ops[place].shape or ours.found[source] == 0:
                continue
            if ours.ops[source].fingerprint is None:
                continue
            group = ours.between(source, place)
            kind = kind_of(ours, group)
            if kind == "residual" and source in inputs:
                lost = next((p for p in inputs if p != source), source)
                where = f"the residual from {ours.layer(lost)}"
            elif ours.makers(group) & WAVES:
                kind, where = "rotary", f"rotary positions {ours.near(place)}"
            else:
                where = f"{'the' if kind != 'operation' else 'an'} {kind} {ours.near(place)}"
            edit = Edit(place, function="identity", inputs=(source,))
            name = _skip_name(ours, place, source, group, kind)
            if name == "repeated layer":
                where = f"a layer once more {ours.near(place)}"
            difference = f"{ours.name} applies {where}, which {theirs.name} lacks"
            remedy = f"it left out on the {ours.name}"
            yield Candidate(name, (edit,), difference, remedy)
            # Several at once: the rotary positions of queries and keys.
            limit = ours.rank[ours.end]
            alike = [e for e in spread(ours, (edit,), True) if ours.rank[e[0].op] <= limit]
            if alike:
                edits = (edit, *(other for each in alike for other in each))
                yield Candidate(name, edits, difference, remedy)


def propose_part_of_masks(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose that ours hides what the other side shows: one of two masks that are combined."""
    for place in ours.surroundings[::-1]:
        op = ours.ops[place]
        if op.dtype != "bool" or len(op.inputs) != 2:
            continue
        for kept, dropped in (op.inputs, op.inputs[::-1]):
            edit = Edit(place, function="like", inputs=(place, kept))
            name = "padding mask ignored"
            if not ours.depends[dropped]:
                name = "missing causal mask" if _is_causal(ours, dropped) else "attention window"
            difference = f"{at(ours, place)} has a mask that {theirs.name} lacks"
            yield Candidate(name, (edit,), difference, f"it left out on the {ours.name}")


def _is_causal(flow: Flow, mask: int) -> bool:
    """True for a mask that hides or shows all before, or after, each position."""
    shown = np.squeeze(flow.value(mask))
    return shown.ndim == 2 and any(
        np.array_equal(shown, np.tril(np.ones_like(shown), k) == value)
        for k in (0, -1) for value in (0, 1)
    )  # fmt: skip


def _skip_name(flow: Flow, place: int, source: int, group: set[int], kind: str) -> str:
    """Name the cause of an operation, or several, that one side alone has."""
    if kind == "mask":
        return _mask_name(flow, group)
    matrices = [use for use in flow.trace.uses if use.op in group and use.role in MATRICES]
    if matrices:
        others = [use.elements.ravel() for use in flow.trace.uses if use.op not in group]
        known = np.concatenate(others) if others else np.zeros(0, int)
        is_known = all(np.isin(use.elements, known).all() for use in matrices)
        return "repeated layer" if is_known else "missing layer"
    prints = flow.ops[source].fingerprint, flow.ops[place].fingerprint
    if (
        kind in ("scale", "operation", "product")
        and prints[0] is not None
        and prints[1] is not None
    ):
        factor = ratio(prints[0], prints[1])
        name = kind_of_factor(flow, place, factor) if factor else "constant factor"
        if name != "constant factor":
            return name
    names = [flow.ops[p].name for p in group]
    if "tanh" in names and sum(name in PRODUCTS for name in names) > 1:
        return "softcap of scores"
    batch = flow.ops[source].shape[:1]
    if (
        kind in ("operation", "product", "summand")
        and batch
        and _mixes_samples(flow, group, batch[0])
    ):
        return "statistics of the batch"
    if kind in ADDITIONAL:
        return ADDITIONAL[kind]
    return "missing operation" if kind in ("operation", "product") else "missing activation"


def _mixes_samples(flow: Flow, group: set[int], batch: int) -> bool:
    """True if a group reduces the first axis."""
    return any(
        "mean" in flow.ops[place].name or "sum" in flow.ops[place].name
        for place in group
        for other in flow.ops[place].inputs
        if flow.ops[other].shape[:1] == (batch,) and batch > 1
        and (flow.ops[place].shape[:1] == (1,) or flow.ops[place].shape == flow.ops[other].shape[1:])
    )  # fmt: skip


def _mask_name(flow: Flow, group: set[int]) -> str:
    """Tell a causal mask, which depends on no input, from a padding mask."""
    masks = [other for place in group for other in flow.ops[place].inputs if other not in group]
    given = [m for m in masks if flow.ops[m].fingerprint is None and flow.depends[m]]
    return "padding mask ignored" if given else "missing causal mask"
