"""Layers of two models that belong together by their names, against those that do the same work."""

from collections import Counter
from collections.abc import Sequence
from functools import reduce
from operator import or_

import numpy as np

from pipeline.verify.alignment.layers import Layer
from pipeline.verify.alignment.mapping import Mapping
from pipeline.verify.alignment.names import words

KINDS = ("weight", "bias")  # words that say nothing of the layer
CLOSE = 1e-9  # similarities that are equal


class NamedLayers:
    """Pairs of layers of one kind and shape whose names are more alike than those of all others.

    A number alone is no name, nor is a word that all layers have.
    """

    def __init__(self, left: Sequence[Layer], right: Sequence[Layer], mapping: Mapping) -> None:
        self.left, self.right = left, right
        self.words = [_words(layer) for layer in left], [_words(layer) for layer in right]
        self.by_name = self._by_name()  # places of left layers, by those of right ones
        owner = np.full(mapping.left.size + 1, -1)
        for at, layer in enumerate(left):
            owner[layer.elements] = at
        owner[-1] = -1  # of elements without a counterpart
        owners = [np.unique(owner[mapping.source[layer.elements]]) for layer in right]
        self.by_work = {at: int(own[0]) for at, own in enumerate(owners)
                        if len(own) == 1 and own[0] >= 0
                        and left[own[0]].elements.shape == right[at].elements.shape}  # fmt: skip

    @property
    def pairs(self) -> list[tuple[Layer, Layer]]:
        """Layers that belong together by name, in the order of execution on the right."""
        return [(self.left[mine], self.right[at]) for at, mine in sorted(self.by_name.items())]

    def partner(self, layer: Layer) -> Layer:
        """Return the left layer that does the work of a right one of a cycle."""
        return self.left[self.by_work[self._place(layer)]]

    def cycle(self, layer: Layer) -> list[tuple[Layer, Layer]]:
        """Return the pairs by name of the layers that took one another's work; none if none did."""
        start, found = self._place(layer), []
        by_work = {mine: at for at, mine in self.by_work.items()}
        at = start
        while at in self.by_name and at in self.by_work and len(found) <= len(self.right):
            mine = self.by_name[at]
            found.append(at)
            if mine not in by_work:
                return []
            at = by_work[mine]
            if at == start:
                break
        is_closed = at == start and len(found) > 1
        if not is_closed or not self._says_so(found):
            return []
        return [(self.left[self.by_name[at]], self.right[at]) for at in found]

    def _place(self, layer: Layer) -> int:
        return next(at for at, other in enumerate(self.right) if other is layer)

    def _says_so(self, cycle: Sequence[int]) -> bool:
        """True if names are equal, or tell the layers of a cycle apart by more than numbers."""
        names = [(self.words[0][self.by_name[at]], self.words[1][at]) for at in cycle]
        if all(ours == theirs for ours, theirs in names):
            return True
        tell = [
            self.words[1][at] - self.words[1][other] & self.words[0][self.by_name[at]]
            for at, other in zip(cycle, (*cycle[1:], cycle[0]), strict=True)
        ]
        return all(_has_words(found) for found in tell)

    def _by_name(self) -> dict[int, int]:
        common = [_common(side) for side in self.words]
        likeness = np.zeros((len(self.right), len(self.left)))
        for at, other in enumerate(self.right):
            for mine, layer in enumerate(self.left):
                if (layer.role, layer.elements.shape) != (other.role, other.elements.shape):
                    continue
                ours, theirs = self.words[0][mine], self.words[1][at]
                shared = ours & theirs
                if _has_words(shared - common[0] - common[1]):
                    likeness[at, mine] = 2 * shared.total() / (ours.total() + theirs.total())
        if not likeness.size:
            return {}
        best = likeness.argmax(axis=1)
        found = {}
        for at, mine in enumerate(best.tolist()):
            value = likeness[at, mine] - CLOSE
            is_best = (likeness[at] > value).sum() == (likeness[:, mine] > value).sum() == 1
            if value > 0 and is_best:
                found[at] = mine
        return found


def _words(layer: Layer) -> Counter[str]:
    """Words of the names of a layer's arrays, each as often as one of them has it."""
    found = reduce(or_, (Counter(words(name)) for name in layer.arrays))
    return Counter({word: count for word, count in found.items() if word not in KINDS})


def _common(names: Sequence[Counter[str]]) -> Counter[str]:
    """Words that all layers of a side have; of a single layer none."""
    return reduce(lambda one, other: one & other, names) if len(names) > 1 else Counter()


def _has_words(found: Counter[str]) -> bool:
    return any(not word.isdigit() for word in found)
