"""Causes that show in gradients alone: stopped gradients, gradients that a model defines, left-out rows."""

from collections.abc import Iterator

from pipeline.verify.causes.candidate import Candidate
from pipeline.verify.causes.flow import Flow
from pipeline.verify.causes.words import at
from pipeline.verify.sides.subject import OUTPUTS, Edit
from pipeline.verify.trace.graph import Role

STOPS = {"detach", "stop_gradient"}
MOST = 24


def propose_gradients(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose reasons why gradients differ while all values agree."""
    stops = [p for p, op in enumerate(ours.ops) if op.name in STOPS and op.inputs]
    groups = [[p] for p in stops[:MOST]] + ([stops] if len(stops) > 1 else [])
    yield from _rows(ours)
    for group in groups:
        edits = tuple(Edit(p, function="identity", inputs=(ours.ops[p].inputs[0],)) for p in group)
        difference = f"{at(ours, group[0])} stops the gradient ({ours.ops[group[0]].name})"
        if any(op.name in STOPS for op in theirs.ops):
            difference += ", the other side does not there"
        yield Candidate("stop gradient", edits, difference, f"it left out on the {ours.name}")
    difference = (
        f"{ours.name} defines a gradient of its own (straight-through, no_grad, custom_vjp)"
    )
    remedy = f"the gradients of its operations on the {ours.name}"
    yield Candidate("custom gradient", (Edit(OUTPUTS),), difference, remedy)


def _rows(ours: Flow) -> Iterator[Candidate]:
    """A row of a table that gets no gradient."""
    for use in ours.trace.uses:
        numbers = ours.ops[use.op].numbers
        if use.role is Role.lookup and len(numbers) == 1 and numbers[0] >= 0:
            edit = Edit(use.op, numbers={0: -1.0})
            row = int(numbers[0])
            difference = (
                f"{at(ours, use.op)} gives row {row} no gradient (padding_idx={row}), the other side one: "
                f"if no loss depends on padding, keep {row} out of --inputs"
            )
            yield Candidate(
                "padding_idx", (edit,), difference, f"no padding_idx on the {ours.name}"
            )
