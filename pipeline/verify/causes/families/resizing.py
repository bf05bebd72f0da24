"""Causes: how sizes are changed, and how one value is made of many."""

from collections.abc import Iterator
from itertools import combinations, product

import numpy as np

from pipeline.verify.causes.candidate import Candidate
from pipeline.verify.causes.families.activations import is_same
from pipeline.verify.causes.flow import Flow
from pipeline.verify.causes.words import WAVES, at
from pipeline.verify.replay.functions import pooled
from pipeline.verify.replay.namespace import NUMPY
from pipeline.verify.replay.resizing import resized
from pipeline.verify.replay.shapes import cut
from pipeline.verify.sides.subject import Edit
from pipeline.verify.trace.fingerprints import fingerprint

RESIZINGS = ("nearest", "nearest-exact", "linear", "linear-corners", "linear-whole", "cubic",
    "cubic-corners")  # fmt: skip
LARGEST = 300_000  # elements of a result whose resizing is tried


def propose_resizing(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose another interpolation: corners aligned or not, antialiased or not, another kind."""
    for place in ours.region[::-1]:
        shape = ours.ops[place].shape
        for source in ours.sources(place):
            before = ours.ops[source].shape
            axes = [
                a for a in range(len(shape)) if len(before) == len(shape) and before[a] != shape[a]
            ]
            if not axes or ours.found[source] == 0 or np.prod(shape) > LARGEST:
                continue
            group = ours.between(source, place)
            if any(ours.ops[p].window for p in group) or min(shape[a] for a in axes) < 2:
                continue
            if ours.makers(group) & WAVES:
                continue  # rotary positions, before heads are repeated
            is_cut = all(ours.ops[p].only_moves for p in group)
            x, sizes = ours.value(source), tuple(shape[a] for a in axes)
            found, print_ = {}, ours.ops[place].fingerprint
            if is_cut:
                yield from _crops(ours, theirs, (place, source), x)
            for kind, smooth in product(RESIZINGS, (False, True)):
                if not (smooth and kind not in ("linear", "cubic")):
                    arguments = (tuple(axes), sizes, kind, smooth)
                    found[kind, smooth] = arguments, fingerprint(resized(NUMPY, x, *arguments))
            own = next((k for k, (_, image) in found.items()
                        if print_ is not None and np.allclose(image, print_, rtol=1e-9)), None)  # fmt: skip
            for choice, (arguments, image) in found.items():
                if choice == own or is_cut or not theirs.find(image):
                    continue
                edit = Edit(place, function="resize", inputs=(source,), arguments=arguments)
                difference = f"{at(ours, place)} resizes by {_words(own)}, the other side by {_words(choice)}"
                remedy = f"{_words(choice)} on the {ours.name}"
                yield Candidate(_resizing_name(own, choice), (edit,), difference, remedy)


def _crops(ours: Flow, theirs: Flow, places: tuple[int, int], x: np.ndarray) -> Iterator[Candidate]:
    """Propose another part of a result that is cut, each axis by as much."""
    place, source = places
    shape = ours.ops[place].shape
    if len(shape) != x.ndim:
        return
    most = [before - after for before, after in zip(x.shape, shape, strict=True)]
    for offset in range(min(max(most), 4) + 1 if min(most) >= 0 else 0):
        starts = tuple(min(offset, more) for more in most)
        image = fingerprint(cut(NUMPY, x, starts, shape))
        if is_same(image, ours.ops[place].fingerprint) or not theirs.find(image):
            continue
        edit = Edit(place, function="cut", inputs=(source,), arguments=(starts, shape))
        difference = f"{at(ours, place)} cuts another part of a result than the other side"
        remedy = f"the part that begins at {offset} on the {ours.name}"
        yield Candidate("crop", (edit,), difference, remedy)


def propose_pooling(ours: Flow, theirs: Flow) -> Iterator[Candidate]:
    """Propose another way to make one of many: their mean, sum or maximum, the first or the last."""
    for place in ours.region:
        shape, print_ = ours.ops[place].shape, ours.ops[place].fingerprint
        for source in ours.sources(place)[-1:]:
            before, group = ours.ops[source].shape, ours.between(source, place)
            if len(before) > 5 or not ours.is_pure(group) or np.prod(before) <= np.prod(shape):
                continue
            x, found = ours.value(source), {}
            for axes, kind in _poolings(before, int(np.prod(shape))):
                with np.errstate(all="ignore"):
                    found[axes, kind] = fingerprint(pooled(NUMPY, np.empty(shape), x, axes, kind))
            alike = (k for (_, k), image in found.items() if is_same(image, print_))
            own = next(alike, "another value")
            for (axes, kind), image in found.items():
                hits = [p for p in theirs.find(image) if theirs.found[p] == 0]
                if kind == own or not hits:
                    continue
                edit = Edit(place, function="pool", inputs=(place, source), arguments=(axes, kind))
                difference = f"{at(ours, place)} takes the {own}, {at(theirs, hits[0])} the {kind}"
                yield Candidate(
                    "pooling kind", (edit,), difference, f"the {kind} on the {ours.name}"
                )


def _poolings(shape: tuple[int, ...], size: int) -> Iterator[tuple[tuple[int, ...], str]]:
    """Yield axes that leave so many elements, with each way to reduce them."""
    for count in (1, 2, 3):
        for axes in combinations(range(1, len(shape)), count):
            if np.prod(shape) == size * np.prod([shape[axis] for axis in axes]):
                yield from ((axes, kind) for kind in ("mean", "max", "sum"))
                if count == 1:
                    yield from ((axes, kind) for kind in ("first", "last"))


def _words(choice: tuple[str, bool] | None) -> str:
    if choice is None:
        return "something else"
    kind = choice[0].removesuffix("-corners").removesuffix("-whole")
    corners = ", align_corners" if choice[0].endswith("corners") else ""
    corners = ", without half pixels" if choice[0].endswith("whole") else corners
    return kind + corners + (", antialiased" if choice[1] else "")


def _resizing_name(own: tuple[str, bool] | None, choice: tuple[str, bool]) -> str:
    if own is None or own[0].split("-")[0] != choice[0].split("-")[0]:
        return "interpolation"
    if own[1] != choice[1]:
        return "antialiasing"
    return "align corners" if "corners" in own[0] + choice[0] else "interpolation"
