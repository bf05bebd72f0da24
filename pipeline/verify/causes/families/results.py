"""Causes: another result that a model returns, or a layer takes."""

from collections.abc import Iterator

from pipeline.verify.causes.candidate import Candidate
from pipeline.verify.causes.flow import MATRICES, Flow
from pipeline.verify.causes.words import at, kind_of
from pipeline.verify.sides.subject import OUTPUTS, Edit


def propose_other_results(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose that the other side returns what ours has, too, before or behind what it returns."""
    for result in ours.roots:
        for place in (p for root in theirs.roots for p in ours.find(theirs.ops[root].fingerprint)):
            if place == result or ours.ops[place].shape != ours.ops[result].shape:
                continue
            is_before = result in ours.after(place)
            first, last = (place, result) if is_before else (result, place)
            group = ours.between(first, last)
            if not group or not ours.is_pure(group):
                continue
            kind = kind_of(ours, group)
            name = "missing softmax" if kind == "softmax" else "other result"
            where = ("behind", "before") if is_before else ("before", "behind")
            difference = (
                f"{ours.name} returns what is {where[0]} the {kind} {ours.near(last)}, the other side "
                f"what is {where[1]} it"
            )
            remedy = f"the result {at(ours, place)} returned"
            edit = Edit(OUTPUTS, operands={result: place})
            yield Candidate(name, (edit,), difference, remedy)


def propose_other_data(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose that the other side's layer takes another result that ours has, too: a cell for a state."""
    given = [p for place in _layers(theirs) for p in theirs.ops[place].inputs if theirs.depends[p]]
    for place in _layers(ours):
        for old in (p for p in ours.ops[place].inputs if ours.depends[p] and ours.found[p] == 1):
            for new in (p for far in given for p in ours.find(theirs.ops[far].fingerprint)):
                if new == old or ours.ops[new].shape != ours.ops[old].shape:
                    continue
                if new in ours.after(place):
                    continue
                difference = (
                    f"{ours.layer(place)} takes another result of {ours.layer(old)} on the {ours.name} than "
                    "on the other side"
                )
                edit = Edit(place, operands={old: new})
                yield Candidate(
                    "other operand", (edit,), difference, f"that one on the {ours.name}"
                )


def _layers(flow: Flow) -> list[int]:
    """Return the places of a region where a layer applies its matrix."""
    region = set(flow.region)
    return [use.op for use in flow.trace.uses if use.op in region and use.role in MATRICES]
