"""Operations of a pass, and what leads from one to another."""

from collections.abc import Collection, Iterable, Iterator
from functools import cached_property

import numpy as np

from pipeline.verify.trace.graph import Trace


class Graph:
    """Operations of a pass, by their places in the trace."""

    def __init__(self, trace: Trace) -> None:
        self.trace, self.ops = trace, trace.ops

    @cached_property
    def rank(self) -> list[int]:
        """Order of execution by place: edits may have moved an operation behind later ones."""
        if all(other < place for place, op in enumerate(self.ops) for other in op.inputs):
            return list(range(len(self.ops)))
        rank, order = [-1] * len(self.ops), 0
        for start in range(len(self.ops)):
            stack = [start]
            while stack:
                place = stack[-1]
                missing = [other for other in self.ops[place].inputs if rank[other] < 0]
                if missing and len(stack) <= len(self.ops):
                    stack += missing
                    continue
                stack.pop()
                if rank[place] < 0:
                    rank[place], order = order, order + 1
        return rank

    @cached_property
    def consumers(self) -> dict[int, list[int]]:
        """Places that take a result."""
        found: dict[int, list[int]] = {}
        for place, op in enumerate(self.ops):
            for other in op.inputs:
                found.setdefault(other, []).append(place)
        return found

    @cached_property
    def depends(self) -> np.ndarray:
        """True for each result that depends on the inputs of the model, not on their shapes alone."""
        free = {draw.op for draw in self.trace.draws}
        found = np.zeros(len(self.ops), bool)
        for place in sorted(range(len(self.ops)), key=self.rank.__getitem__):
            op = self.ops[place]
            if place not in free and not op.name.endswith("_like"):
                found[place] = op.name == "input" or any(found[other] for other in op.inputs)
        return found

    @cached_property
    def uses_arrays(self) -> set[int]:
        """Places of operations that use parameters or buffers."""
        return {use.op for use in self.trace.uses}

    @cached_property
    def updates(self) -> set[int]:
        """Places of the new values of buffers."""
        return set(self.trace.updates.values())

    def only_moves(self, place: int) -> bool:
        """True for a result with the values of others, in another order or shape, or padded."""
        op = self.ops[place]
        return op.only_moves or op.name in ("cat", "concatenate", "stack")

    def is_pure(self, places: Iterable[int]) -> bool:
        """True if operations use no parameters."""
        return not self.uses_arrays & set(places)

    def chain(self, place: int, most: int = 40) -> Iterator[int]:
        """Yield the results that everything from the inputs to this one passes through, nearest first.

        Parameters and constants do not count.
        """
        rank, pending = self.rank, {place}
        for _ in range(most * 4):
            if not pending:
                return
            last = max(pending, key=rank.__getitem__)
            pending.remove(last)
            if not pending and last != place:
                yield last
            pending |= {other for other in self.ops[last].inputs if self.depends[other]}

    def between(self, start: int, end: int) -> set[int]:
        """Places of the operations that lead from a result to another one, which is included."""
        after = self.after(start)
        seen: set[int] = set()
        pending = [end]
        while pending:
            place = pending.pop()
            if place not in seen and place in after:
                seen.add(place)
                pending += self.ops[place].inputs
        return seen

    def after(self, start: int) -> set[int]:
        """Places of all results that depend on this one, itself left out."""
        seen: set[int] = set()
        pending = list(self.consumers.get(start, ()))
        while pending:
            place = pending.pop()
            if place not in seen:
                seen.add(place)
                pending += self.consumers.get(place, ())
        return seen

    def within(self, start: int, hops: int) -> set[int]:
        """Return the places of results that are few operations behind this one."""
        found = pending = {start}
        for _ in range(hops):
            pending = {other for place in pending for other in self.consumers.get(place, ())}
            found = found | pending
        return found

    def makers(self, group: Collection[int]) -> set[str]:
        """Return the names of operations that make the constants of a group."""
        pending = [p for place in group for p in self.ops[place].inputs if not self.depends[p]]
        seen = set(pending)
        while pending:
            pending = [p for place in pending for p in self.ops[place].inputs if p not in seen]
            seen.update(pending)
        return {self.ops[place].name for place in seen}
