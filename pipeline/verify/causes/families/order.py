"""Causes: an operation in another place, or of other values."""

from collections.abc import Iterator, Sequence

from pipeline.verify.causes.candidate import Candidate
from pipeline.verify.causes.flow import MATRICES, Flow
from pipeline.verify.causes.words import PRODUCTS, SUMS, at, kind_of
from pipeline.verify.sides.subject import OUTPUTS, Edit
from pipeline.verify.trace.fingerprints import fingerprint

MOST = 16  # results that are tried in another place
MOST_EXCHANGED = 8  # results each two of which are exchanged
NEAR = 120  # results before one that may take the place of its operand


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
    del theirs
    yield from _exchanged_parts(ours)
    # A product with a state of zeros says nothing, and is no part of the region: its other factor may be.
    places = ours.surroundings
    taken = _taken(ours, places)[:MOST_EXCHANGED]
    for at_, one in enumerate(taken):
        for two in taken[at_ + 1 :]:
            if ours.ops[one].shape != ours.ops[two].shape:
                continue
            edits = tuple(
                Edit(place, operands={one: two, two: one})
                for place in places
                if {one, two} & set(ours.ops[place].inputs)
            )
            layers = ours.layer(one), ours.layer(two)
            name, what = "operands exchanged", f"the results of {layers[0]} and {layers[1]}"
            if layers[0] == layers[1]:
                name, what = "gate order", f"two parts of the result of {layers[0]} (gates)"
            difference = f"{at(ours, edits[0].op)} takes {what} in the other order"
            yield Candidate(name, edits, difference, f"them exchanged on the {ours.name}")


def _taken(flow: Flow, places: Sequence[int]) -> list[int]:
    """Return the results that some operations take from others."""
    inside = set(places)
    taken = (p for place in places for p in flow.ops[place].inputs if p not in inside)
    found = dict.fromkeys(taken)
    return [p for p in found if flow.depends[p] and flow.ops[p].fingerprint is not None]


def _exchanged_parts(ours: Flow) -> Iterator[Candidate]:
    """Two results that are concatenated in the other order."""
    for place in dict.fromkeys(ours.unpadded(p) for p in _taken(ours, ours.region)):
        parts = [p for p in ours.ops[place].inputs if ours.depends[p]]
        if ours.ops[place].name in ("cat", "concatenate") and len(parts) == 2:
            edit = Edit(place, operands={parts[0]: parts[1], parts[1]: parts[0]})
            difference = f"{at(ours, place)} concatenates two results in the other order"
            remedy = f"them exchanged on the {ours.name}"
            yield Candidate("operands exchanged", (edit,), difference, remedy)


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
