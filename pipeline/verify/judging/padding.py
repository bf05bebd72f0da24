"""Rows of tables that one side keeps from learning, where no input of a check has them."""

from pipeline.verify.alignment.mapping import Mapping
from pipeline.verify.judging.case import Case
from pipeline.verify.trace.graph import Role, Trace


def note_padding(case: Case) -> None:
    """Tell of rows that one side alone keeps from learning: inputs of a check may not have them."""
    mapping = case.alignment.mapping
    left, right = _rows(case.training[0]), _rows(case.training[1])
    counterparts = {int(mapping.source[element]) for element in right}
    for side, alone in (
        ("left", {e: row for e, row in left.items() if e not in counterparts}),
        ("right", {e: row for e, row in right.items() if int(mapping.source[e]) not in left}),
    ):
        for element, row in alone.items():
            table = _name(mapping, side, element)
            case.verdict.notes.append(
                f"{side} gives row {row} of {table} no gradient (padding_idx={row}), the other side does: "
                f"not seen, since no input of this check has {row}"
            )


def _rows(trace: Trace) -> dict[int, int]:
    """First elements of the rows that get no gradient, with the rows."""
    found = {}
    for use in trace.uses:
        op = trace.ops[use.op]
        if use.role is Role.lookup and op.name == "embedding" and op.numbers[:1] >= (0,):
            row = int(op.numbers[0])
            found[int(use.elements[row].flat[0])] = row
    return found


def _name(mapping: Mapping, side: str, element: int) -> str:
    owners = mapping.left if side == "left" else mapping.right
    return next(
        array.name for array, end in zip(owners.arrays, owners.ends, strict=True) if element < end
    )
