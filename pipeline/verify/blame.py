"""The origin of the differences of lanes, in one sentence."""

from collections.abc import Iterator, Sequence

from pipeline.verify.lanes import COMPILER, PORT
from pipeline.verify.verdict import LaneEdge


def blame(found: Sequence[LaneEdge]) -> str:
    """Return what is to blame: the port, a compiler, or the precision alone."""
    return "; ".join(_clauses(found))


def _clauses(found: Sequence[LaneEdge]) -> Iterator[str]:
    # Edges come from the widest precision to the narrowest: what follows the first is a consequence.
    charged: dict[str, LaneEdge] = {}
    for edge in found:
        if edge.is_within is False:
            charged.setdefault(edge.changes, edge)
    if charged:
        yield "to blame: " + ", ".join(
            f"{changes} ({_largest(edge):.0e} in {edge.precision}, above its noise)"
            for changes, edge in charged.items()
        )
        if any(changes.startswith(COMPILER) for changes in charged):
            yield "code that runs only when compiled (torch.compiler.is_compiling()) is the compiler's, too"
    port = {edge.precision: edge for edge in found if edge.changes == PORT and edge.is_within}
    if PORT not in charged and "fp64" in port:
        clause = f"the port adds nothing ({_largest(port.pop('fp64')):.0e} in fp64)"
        compilers = [edge for edge in found if edge.changes.startswith(COMPILER)]
        if compilers and all(edge.is_within for edge in compilers):
            clause += ", nor do the compilers"
        yield clause
        if port and not charged:
            numbers = " and ".join(f"{_largest(edge):.0e} in {p}" for p, edge in port.items())
            yield f"what differs is the precision: {numbers}, within its noise"
    absent = [edge for edge in found if edge.is_within is None]
    for reason in dict.fromkeys(edge.reason for edge in absent):
        its = [f"{e.changes} ({e.precision})" for e in absent if e.reason == reason]
        yield f"not compared: {', '.join(its)}: {reason}"


def _largest(edge: LaneEdge) -> float:
    return max(edge.outputs or 0.0, edge.gradients or 0.0)
