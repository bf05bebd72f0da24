"""Parameters whose names say what they are, yet that do the work of others.

Where the names of two models say nothing, whatever makes them the same is their alignment. Where they are
alike, they say what is meant: a port whose `query` does the work of `k_proj` is wrong, although other
weights would make it right: loaded by name, it computes something else.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from pipeline.storage.portable_state import Arrays
from pipeline.verify.alignment.layers import Layer, find_layers, root
from pipeline.verify.alignment.mapping import Mapping
from pipeline.verify.checks.checker import Checker
from pipeline.verify.checks.differences import relative
from pipeline.verify.checks.named_layers import NamedLayers
from pipeline.verify.sides.subject import Inputs
from pipeline.verify.trace.graph import Role, Trace
from pipeline.verify.verdict import Cause, First, Part

TOLERANCE = 1e-5  # of outputs that are the same: float32 inside a model may leave that much

Pair = tuple[Layer, Layer]


def find_exchanged(
    checker: Checker,
    traces: tuple[Trace, Trace],
    inputs: tuple[Inputs, Inputs],
    fixed: Mapping | None = None,
) -> tuple[First, Cause] | None:
    """Return the first layers of like names that the alignment had to exchange or to reorder.

    `traces` are of passes in evaluation with these inputs; `fixed` maps what the user has named, which is
    not held against names.
    """
    mapping = checker.mapping
    left, right = find_layers(traces[0], mapping.left), find_layers(traces[1], mapping.right)
    if fixed is not None:
        right = [layer for layer in right if (fixed.source[layer.elements] < 0).any()]
    named = NamedLayers(left, right, mapping)
    for layer, other in named.pairs:
        if cycle := named.cycle(other):
            if not _agree(checker, traces[0].outputs, inputs[1], cycle):
                return _swapped(named.partner(other), other)
            continue
        sources = mapping.source[other.elements]
        if flips := _flips(layer, other, traces):
            straight = replace(layer, elements=np.flip(layer.elements, flips))
            if not _agree(checker, traces[0].outputs, inputs[1], [(straight, other)]):
                return _flipped(layer, other)
            continue
        if not _is_reordered(layer, sources) or _is_layout(layer, other, traces):
            continue
        if not _agree(checker, traces[0].outputs, inputs[1], [(layer, other)]):
            return _reordered(layer, other)
    return None


def _is_reordered(left: Layer, sources: np.ndarray) -> bool:
    """True if a matrix has the elements of its counterpart in another order."""
    is_matrix = left.role in (Role.dot, Role.conv)
    ours, theirs = left.elements, sources
    return (
        is_matrix
        and (theirs != ours).any()
        and np.array_equal(np.sort(theirs, axis=None), np.sort(ours, axis=None))
    )


def _flips(left: Layer, right: Layer, traces: tuple[Trace, Trace]) -> tuple[int, ...]:
    """Return the axes along which one side turns its kernel round before it is used.

    Frameworks turn that of a transposed convolution or not: that is a layout.
    """
    if (
        left.role is not Role.conv
        or _is_transposed(left, traces[0])
        or _is_transposed(right, traces[1])
    ):
        return ()
    axes = range(2, left.elements.ndim)
    falls = [
        [(np.diff(side.elements, axis=axis) < 0).any() for axis in axes] for side in (left, right)
    ]
    return tuple(axis for axis, ours, theirs in zip(axes, *falls, strict=True) if ours != theirs)


def _is_transposed(layer: Layer, trace: Trace) -> bool:
    window = trace.ops[layer.op].window
    return window is None or any(step != 1 for step in window.spread)


def _agree(checker: Checker, expected: Arrays, inputs: Inputs, pairs: Sequence[Pair]) -> bool:
    """True if the outputs are the same with these layers in place of the aligned ones: a sum has no order."""
    aligned, values = checker.mapping, checker.left.values()
    by_name = Mapping(aligned.left.arrays, aligned.right.arrays)
    for left, right in pairs:
        for ours, theirs in zip(left.parts, right.parts, strict=False):
            by_name.add(ours.ravel(), theirs.ravel())
    by_name.source = np.where(by_name.source >= 0, by_name.source, aligned.source)
    checker.right.load(by_name.to_right(values, checker.own))
    found = checker.right.trace(inputs, False).outputs
    checker.right.load(aligned.to_right(values, checker.own))
    return all(
        relative(np.squeeze(expected[path]), layout.to_left(found[other])) <= TOLERANCE
        for path, (other, layout) in checker.layouts.items()
    )


def _swapped(left: Layer, right: Layer) -> tuple[First, Cause]:
    remedy = (
        f"on the right, {right.name} does the work of {left.name} on the left: with the two exchanged, "
        "what they compute is the same"
    )
    return First(Part.weights, left.name, right.name, 1.0), Cause("exchanged weights", remedy, True)


def _reordered(left: Layer, right: Layer) -> tuple[First, Cause]:
    remedy = (
        f"{right.name} has its features in another order than {left.name}: with its weights reordered, "
        "what they compute is the same (heads split or merged the other way round, rotary positions that "
        "turn other pairs of features, gates or concatenated parts in another order)"
    )
    return First(Part.weights, left.name, right.name, 1.0), Cause("order of features", remedy, True)


def _flipped(left: Layer, right: Layer) -> tuple[First, Cause]:
    remedy = (
        f"the kernel of {right.name} is that of {left.name} from last to first (a convolution in place of "
        "a cross-correlation): with it turned round, what they compute is the same"
    )
    return First(Part.weights, left.name, right.name, 1.0), Cause("kernel flipped", remedy, True)


def _is_layout(left: Layer, right: Layer, traces: tuple[Trace, Trace]) -> bool:
    """True if no more than the layout of an image differs: flattened or cut into patches, or given back."""
    if left.data is None or right.data is None:
        return False
    windows = traces[0].ops[left.op].window, traces[1].ops[right.op].window
    if any(windows):
        return _is_transposed(left, traces[0]) or _is_transposed(right, traces[1])
    places = root(traces[0].ops, left.data), root(traces[1].ops, right.data)
    ours, theirs = traces[0].ops[places[0]], traces[1].ops[places[1]]
    if ours.name == theirs.name == "input" and len(ours.shape) > 2:
        return True
    if any(
        layer.result == root(trace.ops, end)
        for layer, trace in zip((left, right), traces, strict=True)
        for end in trace.results.values()
    ):
        return True
    if len(ours.shape) != len(theirs.shape) or len(ours.shape) < 3:
        return False
    last = (ours.shape[0], *ours.shape[2:], ours.shape[1])
    first = (ours.shape[0], ours.shape[-1], *ours.shape[1:-1])
    is_turned = theirs.shape in (last, first) and theirs.shape != ours.shape
    return is_turned or _all_alike(ours.shape, theirs.shape)


def _all_alike(ours: tuple[int, ...], theirs: tuple[int, ...]) -> bool:
    """True where channels, height and width are as many, so that shapes do not tell them apart."""
    return ours == theirs and len(set(ours[1:])) == 1
