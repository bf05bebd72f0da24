"""Causes: an operation that is missing, additional, or in another place."""

from collections.abc import Iterator

import numpy as np

from pipeline.verify.causes.candidate import Candidate, spread
from pipeline.verify.causes.families.ratios import kind_of_factor, ratio
from pipeline.verify.causes.flow import MATRICES, Flow
from pipeline.verify.causes.words import PRODUCTS, SUMS, WAVES, at, kind_of
from pipeline.verify.sides.subject import OUTPUTS, Edit
from pipeline.verify.trace.fingerprints import fingerprint

MOST = 16  # results that are tried in another place
NEAR = 120  # results before one that may take the place of its operand

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
                where = f"the residual from {at(ours, lost)}"
            elif ours.makers(group) & WAVES:
                kind, where = "rotary", f"rotary positions {ours.near(place)}"
            else:
                where = f"{'the ' if kind != 'operation' else ''}{kind} of {at(ours, place)}"
            edit = Edit(place, function="identity", inputs=(source,))
            name = _skip_name(ours, place, source, group, kind)
            if name == "repeated layer":
                where = f"a layer once more, {at(ours, place)}"
            difference = f"{ours.name} applies {where}, which {theirs.name} lacks"
            remedy = f"it left out on the {ours.name}"
            yield Candidate(name, (edit,), difference, remedy)
            # Several at once: the rotary positions of queries and keys.
            limit = ours.rank[ours.end]
            alike = [e for e in spread(ours, (edit,), True) if ours.rank[e[0].op] <= limit]
            if alike:
                edits = (edit, *(other for each in alike for other in each))
                yield Candidate(name, edits, difference, remedy)


def propose_parallel_branches(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose that a second branch takes what the first one takes, not their sum."""
    del theirs
    for place in ours.region:
        op = ours.ops[place]
        inputs = [p for p in op.inputs if ours.depends[p] and ours.ops[p].shape == op.shape]
        takers = _first_takers(ours, place)
        if op.name not in SUMS or len(inputs) != 2 or not takers:
            continue
        for source, branch in (inputs, inputs[::-1]):
            if ours.found[source] == 0 or branch not in ours.after(source):
                continue
            edits = tuple(Edit(c, operands={place: source}) for c in takers)
            difference = (
                f"{at(ours, takers[0])} takes the sum after {ours.layer(place)}, the other side what the "
                "branch before it takes"
            )
            remedy = f"parallel branches on the {ours.name}"
            yield Candidate("parallel branches", edits, difference, remedy)


def _first_takers(flow: Flow, place: int) -> list[int]:
    """Return what takes a sum for the second branch, and not for the next sum."""
    takers = flow.consumers.get(place, [])
    layer = flow.ops[takers[0]].layer if takers else ""
    if layer != flow.ops[place].layer:
        return [c for c in takers if flow.ops[c].layer == layer]
    return [c for c in takers if flow.ops[c].name not in ("add", "add_")]


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


def propose_other_operands(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose another summand or factor: a residual that is taken before or after a norm."""
    for place in ours.region:
        op = ours.ops[place]
        inputs = [p for p in op.inputs if ours.depends[p] and ours.found[p] != 0]
        if op.name not in SUMS | PRODUCTS or len(inputs) != 2:
            continue
        near = [
            p for p in range(max(0, place - NEAR), place)
            if ours.found[p] == 1 and ours.ops[p].shape == op.shape and p not in inputs
        ]  # fmt: skip
        values = ours.values([*near, *inputs])
        for old, kept in (inputs, inputs[::-1]):
            for new in near[::-1]:
                print_ = fingerprint(_combined(op.name, values[new], values[kept]))
                if not theirs.find(print_):
                    continue
                edit = Edit(place, operands={old: new})
                name = "residual source" if op.name in SUMS else "other operand"
                what = "adds" if op.name in SUMS else "multiplies with"
                difference = (
                    f"{at(ours, place)} {what} the result of {ours.layer(old)}, the other side "
                    f"{what} that of {ours.layer(new)}"
                )
                remedy = f"the result of {ours.layer(new)} on the {ours.name}"
                yield Candidate(name, (edit,), difference, remedy)


def _combined(name: str, left, right):  # noqa: ANN001, ANN202
    if name.startswith("add"):
        return left + right
    if name.startswith("sub"):
        return left - right
    return left * right if name.startswith("mul") else left / right


def propose_exchanges(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose two values exchanged: a gate for what it gates, a difference the other way round."""
    region = set(ours.region)
    taken = [
        p for place in ours.region for p in ours.ops[place].inputs
        if p not in region and ours.depends[p] and ours.ops[p].fingerprint is not None
    ]  # fmt: skip
    for place in dict.fromkeys(ours.unpadded(p) for p in taken):
        parts = [p for p in ours.ops[place].inputs if ours.depends[p]]
        if ours.ops[place].name in ("cat", "concatenate") and len(parts) == 2:
            edit = Edit(place, operands={parts[0]: parts[1], parts[1]: parts[0]})
            difference = f"{at(ours, place)} concatenates two results in the other order"
            remedy = f"them exchanged on the {ours.name}"
            yield Candidate("operands exchanged", (edit,), difference, remedy)
    values = list(dict.fromkeys(taken))[:6]
    for at_, one in enumerate(values):
        for two in values[at_ + 1 :]:
            if ours.ops[one].shape != ours.ops[two].shape:
                continue
            edits = tuple(
                Edit(place, operands={one: two, two: one})
                for place in ours.region
                if {one, two} & set(ours.ops[place].inputs)
            )
            difference = (
                f"{at(ours, edits[0].op)} takes the results of {ours.layer(one)} and {ours.layer(two)} "
                "in the other order"
            )
            yield Candidate(
                "operands exchanged", edits, difference, f"them exchanged on the {ours.name}"
            )


def propose_moves(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose that a norm, an activation or a dropout of ours comes later on the other side."""
    del theirs
    for place in _group_ends(ours):
        sources = [s for s in ours.sources(place) if ours.ops[s].shape == ours.ops[place].shape]
        if not sources or ours.found[sources[-1]] == 0:
            continue
        source = sources[-1]
        group = ours.between(source, place)
        if any(use.op in group and use.role in MATRICES for use in ours.trace.uses):
            continue  # a layer, not a norm or a function
        for target in _targets(ours, place, group):
            edits = _moved(ours, source, place, group, target)
            kind = kind_of(ours, group)
            name = _move_name(ours, kind, target)
            behind = f"the {kind_of(ours, {target})} {ours.near(target)}"
            difference = (
                f"{ours.name} applies the {kind} {ours.near(place)} before {behind}, "
                "the other side after it"
            )
            remedy = f"it behind that on the {ours.name}"
            yield Candidate(name, edits, difference, remedy, until=place)


def _group_ends(flow: Flow) -> list[int]:
    """Return results of the region that a group of operations may end with."""
    region = set(flow.region)
    entering = {use.data for use in flow.trace.uses}
    found = []
    for place in flow.region:
        after = flow.consumers.get(place, [])
        is_end = place in entering or any(
            flow.ops[c].layer != flow.ops[place].layer or c not in region or len(after) > 1
            or flow.ops[c].name in SUMS for c in after
        )  # fmt: skip
        if (is_end or not after) and not flow.ops[place].only_moves:
            found.append(place)
    return list(dict.fromkeys([*found[::-1][:3], *found[:3]]))


def _targets(flow: Flow, place: int, group: set[int]) -> list[int]:
    """Return later results in whose place a group may stand: ends of layers, sums."""
    shape, after = flow.ops[place].shape, flow.after(place)
    found = []
    for other in sorted(after - group, key=flow.rank.__getitem__):
        op = flow.ops[other]
        if op.shape != shape or op.only_moves or flow.found[other] == 1:
            continue
        consumers = flow.consumers.get(other, [])
        is_end = not consumers or any(flow.ops[c].layer != op.layer for c in consumers)
        if is_end or op.name in SUMS or op.window is not None or not op.layer:
            found.append(other)
        if len(found) == MOST:
            break
    return found


def _moved(flow: Flow, source: int, place: int, group: set[int], target: int) -> tuple[Edit, ...]:
    """Return the edits that apply a group to a later result, and nothing in its place."""
    operands: dict[int, dict[int, int]] = {}
    for other in group:
        if source in flow.ops[other].inputs:
            operands.setdefault(other, {})[source] = target
    for old, new in ((place, source), (target, place)):
        for other in flow.consumers.get(old, ()):
            if other not in group:
                operands.setdefault(other, {})[old] = new
    edits = [Edit(other, operands=changes) for other, changes in sorted(operands.items())]
    if target in flow.roots or target in flow.trace.results.values():
        edits.append(Edit(OUTPUTS, operands={target: place}))
    return tuple(edits)


def _move_name(flow: Flow, kind: str, target: int) -> str:
    op = flow.ops[target]
    is_sum = op.name in SUMS and sum(flow.depends[p] for p in op.inputs) > 1
    if kind == "norm" and is_sum:
        return "pre-norm or post-norm"
    if kind == "dropout":
        return "dropout place"
    return "order of norm and activation" if kind == "norm" else "activation order"
