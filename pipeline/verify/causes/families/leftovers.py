"""Causes of parameters that one side alone has."""

from collections.abc import Iterator, Sequence

from pipeline.verify.alignment.layers import common_path
from pipeline.verify.alignment.names import pattern
from pipeline.verify.causes.candidate import Candidate
from pipeline.verify.causes.flow import Flow
from pipeline.verify.sides.subject import Edit
from pipeline.verify.trace.graph import Role


def _tied(ours: Flow, theirs: Flow, names: Sequence[str]) -> Iterator[Candidate]:
    """Propose that a matrix of ours is a table of the other side, which uses it twice."""
    tables = {
        p for use in ours.trace.uses if use.role is Role.lookup for p in ours.ops[use.op].inputs
    }
    places = {op.layer: p for p, op in enumerate(ours.ops) if op.name == "parameter"}
    for name in names if len(names) <= 2 else ():
        shape = ours.ops[places[name]].shape
        for table in sorted(tables & set(places.values())):
            if len(shape) != 2 or ours.ops[table].shape not in (shape, shape[::-1]):
                continue
            function = "identity" if ours.ops[table].shape == shape else "transpose"
            rest = [Edit(places[n], function="scale", arguments=(0.0,)) for n in names if n != name]
            edits = (Edit(places[name], function=function, inputs=(table,)), *rest)
            difference = f"{ours.name} has {name}, where {theirs.name} uses a table twice"
            remedy = f"{ours.ops[table].layer} in its place on the {ours.name} (tied weights)"
            yield Candidate("tied or untied head", edits, difference, remedy)


def propose_leftovers(ours: Flow, theirs: Flow, names: Sequence[str]) -> Iterator[Candidate]:
    """Propose that parameters are missing on the other side: as summands, or since layers share them."""
    places = {op.layer: p for p, op in enumerate(ours.ops) if op.name == "parameter"}
    listed = common_path(names) if len(names) > 3 else ", ".join(names)
    if all(len(ours.ops[places[name]].shape) == 1 for name in names):
        edits = tuple(Edit(places[name], function="scale", arguments=(0.0,)) for name in names)
        difference = f"{ours.name} adds {listed}, which {theirs.name} lacks"
        yield Candidate("missing bias", edits, difference, f"zero for it on the {ours.name}")
    yield from _tied(ours, theirs, names)
    shared = []
    for name in names:
        alike = [
            place
            for other, place in places.items()
            if other not in names and pattern(other) == pattern(name)
            and ours.ops[place].shape == ours.ops[places[name]].shape
        ]  # fmt: skip
        if not alike:
            return
        shared.append(Edit(places[name], function="identity", inputs=(alike[0],)))
    difference = f"{theirs.name} uses one layer where {ours.name} has another one, {listed}"
    remedy = f"the weights of the first such layer on the {ours.name}"
    yield Candidate("weight sharing", tuple(shared), difference, remedy)
