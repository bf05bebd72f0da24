"""Arrays of which some elements are mapped are completed where there is only one way."""

import numpy as np

from pipeline.verify.alignment.mapping import Mapping
from pipeline.verify.alignment.names import similarity
from pipeline.verify.trace.graph import Array


def mapping_of(left, right, known):
    """A map of two arrays of these shapes, with the left elements of some right ones."""
    mapping = Mapping((Array("a", left, "float64"),), (Array("b", right, "float64"),))
    for theirs, ours in known.items():
        mapping.source[theirs] = ours
    mapping.extend()
    return mapping


def test_a_table_is_completed_in_its_own_order():
    mapping = mapping_of((5, 2), (1, 5, 2), {2: 2, 3: 3})
    assert mapping.source.tolist() == list(range(10))


def test_a_transposed_matrix_is_completed_from_elements_that_span_its_axes():
    turned = np.arange(12).reshape(4, 3).T.ravel()
    known = {at: turned[at] for at in (0, 1, 4, 5, 11)}
    assert mapping_of((4, 3), (3, 4), known).source.tolist() == turned.tolist()


def test_a_part_is_completed_although_the_parts_are_in_another_order():
    order = np.arange(12).reshape(3, 4)[[2, 0, 1]].ravel()
    known = {at: order[at] for at in range(12) if at not in (3, 6)}
    assert mapping_of((12,), (3, 4), known).source.tolist() == order.tolist()


def test_elements_along_one_axis_do_not_tell_of_the_other():
    known = {0: 0, 1: 4, 2: 8}
    assert mapping_of((3, 4), (4, 3), known).source[3:].tolist() == [-1] * 9


def test_two_elements_do_not_tell_a_vector():
    assert mapping_of((2, 3), (6,), {0: 5, 1: 4}).source.tolist() == [5, 4, -1, -1, -1, -1]


def test_an_element_that_another_one_has_is_not_given_twice():
    mapping = Mapping(
        (Array("a", (6,), "float64"),),
        (Array("b", (4,), "float64"), Array("c", (2,), "float64")),
    )
    mapping.source[[0, 1, 2, 4]] = [0, 1, 2, 3]
    mapping.extend()
    assert mapping.source[3] == -1


def test_a_number_that_two_names_share_says_nothing():
    assert similarity("blocks.11.weight", "p11") == 0
    assert similarity("blocks.11.weight", "layers_11.kernel") == 1
