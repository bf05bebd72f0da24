"""Causes of parameters that one side alone has."""

from collections.abc import Iterator, Sequence

from pipeline.verify.alignment.layers import common_path
from pipeline.verify.alignment.names import pattern
from pipeline.verify.causes.candidate import Candidate
from pipeline.verify.causes.flow import Flow
from pipeline.verify.sides.subject import Edit


def propose_leftovers(ours: Flow, theirs: Flow, names: Sequence[str]) -> Iterator[Candidate]:
    """Propose that parameters are missing on the other side: as summands, or since layers share them."""
    places = {op.layer: p for p, op in enumerate(ours.ops) if op.name == "parameter"}
    listed = common_path(names) if len(names) > 3 else ", ".join(names)
    if all(len(ours.ops[places[name]].shape) == 1 for name in names):
        edits = tuple(Edit(places[name], function="scale", arguments=(0.0,)) for name in names)
        difference = f"{ours.name} adds {listed}, which {theirs.name} lacks"
        yield Candidate("missing bias", edits, difference, f"zero for it on the {ours.name}")
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
