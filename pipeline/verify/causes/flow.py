"""Flow of values through one side's pass, and what of it the other side does not have."""

from collections.abc import Collection, Sequence
from functools import cached_property

import numpy as np

from pipeline.verify.alignment.layers import Owners
from pipeline.verify.causes.graph import Graph
from pipeline.verify.checks.places import SOURCES, layers_of, matched
from pipeline.verify.sides.subject import OUTPUTS, Edit, Inputs, Subject
from pipeline.verify.trace.fingerprints import FIELDS, Fingerprint, Index, distance, is_informative
from pipeline.verify.trace.graph import Role

TOLERANCE = 1e-9  # of results that both sides have
MATRICES = (Role.dot, Role.conv, Role.lookup)
PADDINGS = ("reflection_pad1d", "reflection_pad2d", "replication_pad1d", "replication_pad2d")


class Flow(Graph):
    """One side's pass, perhaps with edits.

    `found` tells of each result if the other side has it: 1 yes, 0 no, -1 it says nothing. `region` are
    the results between the last that both sides have and the next layer, or the end.
    """

    def __init__(
        self,
        name: str,
        subject: Subject,
        inputs: Inputs,
        training: bool,
        edits: Sequence[Edit] = (),
    ) -> None:
        self.name, self.subject, self.inputs, self.training = name, subject, inputs, training
        self.edits = tuple(edits)
        super().__init__(subject.trace(inputs, training, edits=self.edits))
        self._kept: dict[int, np.ndarray] = {}

    def compare(self, other: "Flow", roots: Collection[int]) -> None:
        """Find what the other side does not have, and leads to the results `roots`."""
        self.roots = tuple(roots)
        self.found = matched(self.trace, other.trace, TOLERANCE)
        self.guilty = self._lead_to(self.roots)
        for place in self.guilty:  # a loss says something, though it is a single number
            if self._is_scalar(place):
                self.found[place] = bool(other.find(self.ops[place].fingerprint))
        self.guilty = self._lead_to(self.roots)
        self.suspects = [place for place in self.guilty if self.found[place] == 0]

    def _lead_to(self, roots: Collection[int]) -> list[int]:
        """Return what leads to some results only through others that the other side does not have."""
        seen: set[int] = set()
        pending = list(roots)
        while pending:
            place = pending.pop()
            if place in seen or self.found[place] == 1 or self.ops[place].name in SOURCES:
                continue
            seen.add(place)
            pending += self.ops[place].inputs
        return sorted(seen)

    @cached_property
    def index(self) -> Index:
        """This side's results by value; `places` has the place of each."""
        self.places = [p for p, op in enumerate(self.ops) if op.fingerprint is not None
                       and op.name not in SOURCES and is_informative(op.fingerprint)]  # fmt: skip
        prints = [self.ops[place].fingerprint for place in self.places]
        return Index(np.stack(prints) if prints else np.zeros((0, len(FIELDS))))  # pyrefly: ignore

    def find(self, print_: Fingerprint | None, tolerance: float = TOLERANCE) -> list[int]:
        """Return the places of results with this fingerprint, closest first."""
        if print_ is None:
            return []
        if print_[4] == print_[5]:
            own = [(place, self.ops[place].fingerprint) for place in self.scalars]
            return [p for p, f in own if f is not None and distance(print_, f) <= tolerance]
        index = self.index
        return [self.places[at] for at in index.find(print_, tolerance)]

    @cached_property
    def scalars(self) -> list[int]:
        """Places of single numbers that depend on the inputs, such as losses."""
        return [place for place in range(len(self.ops)) if self._is_scalar(place)]

    def _is_scalar(self, place: int) -> bool:
        op = self.ops[place]
        if op.fingerprint is None or np.prod(op.shape) != 1 or not self.depends[place]:
            return False
        return bool(np.isfinite(op.fingerprint).all() and op.fingerprint[0] > 0)

    @cached_property
    def exits(self) -> list[int]:
        """Wrong values that enter a layer with a matrix, and wrong results, in order."""
        entering = {self.unpadded(use.data) for use in self.trace.uses
                    if use.role in MATRICES and use.data is not None}  # fmt: skip
        guilty = set(self.suspects)
        found = [p for p in guilty if p in entering or p in self.roots]
        return sorted(found, key=self.rank.__getitem__)

    def unpadded(self, place: int) -> int:
        """Return the result that one has the values of, in another shape or padded by some of them."""
        pending, sources = [place], set()
        while pending:
            at = pending.pop()
            moved = self.only_moves(at) or self.ops[at].name in PADDINGS
            before = [other for other in self.ops[at].inputs if self.depends[other]]
            pending += before if moved else []
            sources |= set() if moved and before else {at}
        source = sources.pop()
        larger = np.prod(self.ops[place].shape) >= np.prod(self.ops[source].shape)
        return source if not sources and larger else place

    @cached_property
    def first(self) -> int:
        """The earliest wrong result; -1 if there is none."""
        return min(self.suspects, key=self.rank.__getitem__, default=-1)

    @cached_property
    def end(self) -> int:
        """Last place of the region: the first wrong value that enters a layer.

        One that is only moved, or padded, since the last right value does not count.
        """
        exits = [place for place in self.exits if self.rank[place] >= self.rank[self.first]]
        for place in exits:
            if not all(self.only_moves(other) for other in self.upto(place)):
                return place
        return self.guilty[-1] if self.guilty else -1

    @cached_property
    def region(self) -> list[int]:
        """Wrong results up to the end of the region, in order."""
        return self.upto(self.end)

    def upto(self, end: int) -> list[int]:
        """Return the wrong results up to a place, in order."""
        limit = self.rank[end] if end >= 0 else -1
        found = [place for place in self.suspects if self.rank[place] <= limit]
        return sorted(found, key=self.rank.__getitem__)

    @cached_property
    def entering(self) -> list[int]:
        """Results that the region takes and that are not wrong."""
        region = set(self.region)
        taken = (p for place in self.region for p in self.ops[place].inputs if p not in region)
        return [p for p in dict.fromkeys(taken) if self.ops[p].fingerprint is not None]

    @cached_property
    def surroundings(self) -> list[int]:
        """The region and what it takes that the other side may have or not: masks, constants, integers."""
        seen: set[int] = set()
        limit = self.rank[self.end] if self.end >= 0 else -1
        pending = [place for place in self.guilty if self.rank[place] <= limit]
        region = set(self.region)
        while pending:
            place = pending.pop()
            if place in seen or (place not in region and self.found[place] == 1):
                continue
            seen.add(place)
            pending += self.ops[place].inputs
        return sorted(seen, key=self.rank.__getitem__)

    def sources(self, place: int) -> list[int]:
        """Return the results that one is made of alone, nearest first, up to one that is not wrong."""
        found = []
        for other in self.chain(place):
            found.append(other)
            if self.found[other] == 1 or self.ops[other].name == "input":
                break
        return found

    def layer_ends(self, place: int) -> list[int]:
        """Return the results of the layers behind a result, in order: the last use of their parameters."""
        after, found = self.after(place), []
        for use in self.trace.uses:
            if use.op in after and use.role in MATRICES:
                near = self.within(use.op, 2) & set(self.layers)
                ends = [p for p in near if self.layers[p] == self.layers[use.op]]
                found.append(max(ends, key=self.rank.__getitem__))
        return list(dict.fromkeys(found))

    def value(self, place: int) -> np.ndarray:
        """Return a result."""
        return self.values([place])[place]

    def values(self, places: Collection[int]) -> dict[int, np.ndarray]:
        """Return results by their places."""
        missing = [place for place in places if place not in self._kept]
        if missing:
            edits = self.edits or (Edit(OUTPUTS),)
            trace = self.subject.trace(
                self.inputs, self.training, keep=missing, until=max(missing), edits=edits
            )
            self._kept |= trace.kept
        return {place: self._kept[place] for place in places if place in self._kept}

    @cached_property
    def layers(self) -> dict[int, str]:
        """Names of the layers whose parameters an operation uses, by place."""
        return layers_of(self.trace, Owners(self.subject.description.arrays))

    def layer(self, place: int) -> str:
        """Name of the layer of a result; of one between layers, that of the layer before it."""
        return self.near(place).partition(" ")[2]

    def near(self, place: int) -> str:
        """Name the layer that a result is in, or after."""
        if place in self.layers:
            return f"in {self.layers[place]}"
        own = self.ops[place].layer
        is_leaf = not any(other.startswith(f"{own}.") for other in self.layers.values())
        if own and is_leaf and not set(own) & set(",>"):
            return f"in {own}"
        seen, pending = {place}, [place]
        while pending:
            at = max(pending, key=self.rank.__getitem__)
            pending.remove(at)
            if at in self.layers:
                return f"after {self.layers[at]}"
            pending += [other for other in self.ops[at].inputs if other not in seen]
            seen.update(self.ops[at].inputs)
        return f"in {self.ops[place].source or own or 'the model'}"
