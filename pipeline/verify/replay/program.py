"""Record of a pass as a program, to run it again with some of its operations changed."""

import heapq
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from pipeline.verify.replay.edits import edited_inputs, merged
from pipeline.verify.replay.functions import FUNCTIONS
from pipeline.verify.replay.namespace import Namespace
from pipeline.verify.sides.subject import OUTPUTS, Edit
from pipeline.verify.trace.fingerprints import fingerprint
from pipeline.verify.trace.graph import Trace, Window

A = TypeVar("A")  # array of a framework

# Kinds of registers that are filled before the first step.
Source = tuple[str, str]  # (`parameter` or `input`, name)


@dataclass(frozen=True)
class Operand:
    """An array that a step takes: its register, and the place of the result that it is or shows."""

    register: int
    place: int


@dataclass
class Step(ABC, Generic[A]):
    """An operation as it was executed, on arrays of its framework."""

    operands: tuple[Operand, ...]
    registers: tuple[int, ...]  # of its results
    places: tuple[int, ...]  # of its results; -1 for a view of parameters

    @abstractmethod
    def execute(
        self, arrays: Sequence[A], numbers: Mapping[int, float], window: Window | None
    ) -> Sequence[A]:
        """Return the results, with some numbers or the window replaced."""


@dataclass
class Program(Generic[A]):
    """Steps of a pass in the order of execution."""

    steps: list[Step[A]] = field(default_factory=list)
    sources: dict[Source, int] = field(default_factory=dict)  # registers
    constants: dict[int, A] = field(default_factory=dict)  # by register
    registers: dict[int, int] = field(default_factory=dict)  # by place
    size: int = 0  # number of registers

    def add_register(self) -> int:
        """Return a new register."""
        self.size += 1
        return self.size - 1

    def run(
        self,
        values: Mapping[Source, A],
        edits: Sequence[Edit],
        namespace: Namespace[A],
        until: int | None = None,
        visit: Callable[[int, A], None] = lambda place, array: None,
    ) -> dict[int, A]:
        """Execute the steps, to the end or to place `until`; return the registers.

        `visit` is called with each result. A result is computed before those that an edit makes of it,
        even if it was recorded later.
        """
        changes = merged(edits)
        found = {register: namespace.copy(array) for register, array in self.constants.items()}
        found |= {self.sources[name]: array for name, array in values.items()}

        def finish(place: int, register: int, result: A) -> None:
            edit = changes.get(place)
            if edit is not None and edit.value is not None:
                result = namespace.asarray(edit.value)
            elif edit is not None and edit.function:
                found[register] = result
                taken = [found[self.registers[at]] for at in edit.inputs or (place,)]
                own: Any = result
                made: Any = FUNCTIONS[edit.function](namespace, *taken, *edit.arguments)
                if math.prod(made.shape) == math.prod(own.shape):
                    made = namespace.reshape(made, tuple(own.shape))
                result = namespace.copy(made)  # what it shows may be changed in place
            found[register] = result
            if place >= 0:
                visit(place, result)

        for place in [place for place in changes if self._is_source(place)]:
            finish(place, self.registers[place], found[self.registers[place]])
        for step in self._ordered(changes):
            edit = next((changes[place] for place in step.places if place in changes), Edit(0))
            arrays = [found[self._register(operand, edit)] for operand in step.operands]
            results = step.execute(arrays, edit.numbers, edit.window)
            for place, register, result in zip(step.places, step.registers, results, strict=True):
                finish(place, register, result)
            if until is not None and until in step.places:
                break
        return found

    def trace(
        self,
        before: Trace,
        values: Mapping[Source, A],
        edits: Sequence[Edit],
        namespace: Namespace[A],
        keep: Collection[int] = (),
        until: int | None = None,
    ) -> Trace:
        """Record the pass with edits, given its record without them."""
        first = min((edit.op for edit in edits if edit.op != OUTPUTS), default=len(before.ops))
        ops, kept = list(before.ops), {}

        def visit(place: int, array: A) -> None:
            if place in keep:
                kept[place] = namespace.to_numpy(array).copy()
            if place >= first and ops[place].fingerprint is not None:
                ops[place] = replace(ops[place], fingerprint=fingerprint(namespace.to_numpy(array)))

        found = self.run(values, edits, namespace, until, visit)
        for place in keep:  # inputs, parameters, constants
            if place not in kept and self.registers[place] in found:
                kept[place] = namespace.to_numpy(found[self.registers[place]]).copy()
        named = [
            {
                path: namespace.to_numpy(found[register]).copy()
                for path, register in self.results(places, edits).items()
                if register in found
            }
            for places in (before.results, before.updates)
        ]
        changes = merged(edits)
        moved = changes.pop(OUTPUTS, Edit(0)).operands
        for place, edit in changes.items():
            ops[place] = replace(ops[place], inputs=edited_inputs(ops[place].inputs, edit))
        results, updates = (
            {path: moved.get(place, place) for path, place in places.items()}
            for places in (before.results, before.updates)
        )
        return Trace(ops, before.uses, named[0], results, named[1], before.draws, kept, updates)

    def results(self, places: Mapping[str, int], edits: Sequence[Edit]) -> dict[str, int]:
        """Return the registers of outputs or buffers, given their places."""
        moved = merged(edits).get(OUTPUTS, Edit(0)).operands
        return {path: self.registers[moved.get(place, place)] for path, place in places.items()}

    def _register(self, operand: Operand, edit: Edit) -> int:
        if operand.place in edit.operands:
            return self.registers[edit.operands[operand.place]]
        return operand.register

    def _is_source(self, place: int) -> bool:
        register = self.registers.get(place)
        return register in self.constants or register in self.sources.values()

    def _ordered(self, changes: Mapping[int, Edit]) -> Sequence[Step[A]]:
        """Return the steps in the order of execution, as few as possible moved behind later ones."""
        maker: dict[int, int] = {}  # of a register: the last step that has made it
        waits: list[set[int]] = []
        last = {place: at for at, step in enumerate(self.steps) for place in step.places}
        is_moved = False
        for at, step in enumerate(self.steps):
            before = {maker[o.register] for o in step.operands if o.register in maker}
            for place in step.places:
                edit = changes.get(place)
                if edit is None:
                    continue
                replaced = {maker[o.register] for o in step.operands
                            if o.place in edit.operands and o.register in maker}  # fmt: skip
                asked = [
                    o
                    for old, o in edit.operands.items()
                    if any(old == x.place for x in step.operands)
                ]
                asked += [other for other in edit.inputs if other != place]
                makers = {last[other] for other in asked if other in last}
                before = (before - replaced) | makers
                is_moved |= any(other >= at for other in makers)
            waits.append(before - {at})
            maker |= dict.fromkeys(step.registers, at)
        return [self.steps[at] for at in _sorted(waits)] if is_moved else self.steps


def _sorted(waits: Sequence[set[int]]) -> list[int]:
    """Order steps so that each comes after those that it waits for, else by number (Kahn 1962).

    Raises:
        ValueError: some wait for each other.
    """
    followers: dict[int, list[int]] = {}
    for at, before in enumerate(waits):
        for other in before:
            followers.setdefault(other, []).append(at)
    missing = [len(before) for before in waits]
    ready = [at for at, count in enumerate(missing) if not count]
    order = []
    while ready:
        order.append(heapq.heappop(ready))
        for at in followers.get(order[-1], ()):
            missing[at] -= 1
            if not missing[at]:
                heapq.heappush(ready, at)
    if len(order) < len(waits):
        raise ValueError("an edit makes a result depend on itself")
    return order
