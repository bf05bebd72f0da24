"""Parameters without a counterpart: unused, redundant, or needed."""

from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from pipeline.storage.portable_state import Arrays
from pipeline.verify.alignment.layers import Owners
from pipeline.verify.alignment.names import similarity
from pipeline.verify.checks.checker import Checker
from pipeline.verify.sides.subject import Inputs
from pipeline.verify.verdict import SIDES, Leftover


@dataclass
class Leftovers:
    """Parameters of both sides without a counterpart.

    Those in `redundant` add to others that have one, such as the second bias of torch's LSTM; they are
    held at zero. Those in `unused` have no gradient; `tables` are no parameters, and stay as they are.
    """

    named: dict[str, list[Leftover]] = field(default_factory=lambda: {"left": [], "right": []})
    needed: dict[str, list[str]] = field(default_factory=lambda: {"left": [], "right": []})
    redundant: dict[str, list[str]] = field(default_factory=lambda: {"left": [], "right": []})
    tables: list[str] = field(default_factory=list)

    @property
    def unused(self) -> list[str]:
        """Names of those on which no output depends."""
        return [one.name for side in self.named.values() for one in side if not one.is_used]


def find_leftovers(checker: Checker, inputs: tuple[Inputs, Inputs]) -> Leftovers:
    """Find the parameters without a counterpart, and set redundant ones to zero."""
    found = Leftovers()
    mapping = checker.mapping
    known = mapping.is_used, mapping.source >= 0
    if all(mask.all() for mask in known):
        return found
    factors = checker.weights(0)
    for side, subject, owners, mask, given, factor in zip(
        SIDES, (checker.left, checker.right), (mapping.left, mapping.right), known, inputs, factors,
        strict=True,
    ):  # fmt: skip
        # A bias before a batch norm has a gradient in evaluation alone.
        passes = [subject.run(given, training, factor).gradients for training in (True, False)]
        used = [_matched_gradients(gradients, owners, mask) for gradients in passes]
        zeroed = {}
        for index, array in enumerate(owners.arrays):
            free = ~mask[owners.elements(index)]
            if not free.any():
                continue
            own = [g.get(array.name, np.zeros(array.shape))[free] for g in passes]
            is_used = any(gradient.any() for gradient in own)
            if not array.is_trained:
                found.tables.append(array.name)
                found.named[side].append(Leftover(array.name, array.shape))
                continue
            leftover = Leftover(array.name, array.shape, is_used=is_used)
            if is_used and len(array.shape) == 1 and all(map(_occurs, own, used)):
                found.redundant[side].append(array.name)
                zeroed[array.name] = np.where(free, 0.0, subject.values()[array.name])
            elif is_used:
                found.needed[side].append(array.name)
            found.named[side].append(leftover)
        subject.load(zeroed)
        if side == "left":
            checker.alignment.values |= zeroed
        else:
            checker.own |= zeroed
    _add_nearest(found)
    return found


def _matched_gradients(gradients: Arrays, owners: Owners, mask: np.ndarray) -> np.ndarray:
    """Sorted gradients of all elements of vectors that have a counterpart."""
    vectors = [
        gradients[array.name][mask[owners.elements(index)]]
        for index, array in enumerate(owners.arrays)
        if array.name in gradients and len(array.shape) == 1
    ]
    return np.sort(np.concatenate(vectors)) if vectors else np.zeros(0)


def _occurs(gradient: np.ndarray, used: np.ndarray) -> bool:
    """Tell if every gradient is that of some matched element, too: both are summands of one sum."""
    if not used.size:
        return False
    scale = np.abs(used).max()
    at = (
        np.clip(np.searchsorted(used, gradient), 1, len(used) - 1)
        if len(used) > 1
        else np.zeros(len(gradient), int)
    )
    near = np.minimum(np.abs(used[at] - gradient), np.abs(used[at - 1] - gradient))
    return bool((near <= 1e-12 * scale).all())


def _add_nearest(found: Leftovers) -> None:
    """Name the most similar leftover of the other side."""
    for side, other in (SIDES, SIDES[::-1]):
        names = [one.name for one in found.named[other]]
        found.named[side] = [
            replace(one, nearest=max(names, key=partial(similarity, one.name), default=""))
            for one in found.named[side]
        ]
