"""Elements that a user has mapped: what is aligned leaves them alone."""

import numpy as np
from maps import described

from pipeline.verify.alignment.fixed import fixed_matches
from pipeline.verify.alignment.layers import Layer
from pipeline.verify.alignment.mapping import Mapping
from pipeline.verify.names.rows import Row, apply_rows
from pipeline.verify.trace.graph import Role


def layer(elements, shift=None, op=0):
    elements, shift = np.asarray(elements), None if shift is None else np.asarray(shift)
    return Layer(Role.dot, elements, shift, op, op, None, (), None, ("w",))


def test_layers_that_a_user_has_fixed_are_matched_by_their_elements_alone():
    left, right = described({"w": (4, 2), "b": (4,)}), described({"v": (4, 2), "c": (4,)})
    fixed = apply_rows([Row("w", "v", "take([2, 3, 0, 1], axis=0)")], left, right)
    ours = [layer([[0, 1], [2, 3]], [8, 9]), layer([[4, 5], [6, 7]], [10, 11], op=1)]
    theirs = [layer([[0, 1], [2, 3], [4, 5], [6, 7]], [8, 9, 10, 11])]
    matches, *free = fixed_matches(fixed, ours, theirs)
    assert free == [[], []]
    # The biases follow the weights, though they have no row.
    fixed.add(*matches[0].pairs())
    assert fixed.source[8:].tolist() == [10, 11, 8, 9]
    matches, *free = fixed_matches(Mapping(left, right), ours, theirs)
    assert (matches, *free) == ([], ours, theirs)


def test_a_fixed_element_is_not_mapped_anew():
    mapping = apply_rows([Row("a", "b[1]")], described({"a": ()}), described({"b": (2,)}))
    copied = mapping.copy()
    copied.add(np.array([0, 0]), np.array([0, 1]))
    assert copied.source.tolist() == [0, 0]
    assert mapping.source.tolist() == [-1, 0]
