"""Rows of an alignment: the simplest text for a map of elements, and the same map from the text."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

from pipeline.verify.alignment.mapping import Mapping
from pipeline.verify.alignment_table import collapse_rows, shortened
from pipeline.verify.names.notation import NotationError
from pipeline.verify.names.parsing import parse_block, parse_transform
from pipeline.verify.names.row_search import find_rows, unmatched
from pipeline.verify.names.rows import Row, RowError, apply_rows
from pipeline.verify.trace.graph import Array


def described(shapes):
    return tuple(Array(name, tuple(shape), "float64") for name, shape in shapes.items())


def mapping_of(left, made):
    """The map from arrays of these shapes to those that `made` makes of their numbered elements."""
    ours = described(left)
    numbered = Mapping(ours, ())
    elements = {a.name: numbered.left.elements(index) for index, a in enumerate(ours)}
    theirs = {name: np.asarray(array) for name, array in made(elements).items()}
    mapping = Mapping(ours, described({name: array.shape for name, array in theirs.items()}))
    mapping.source = np.concatenate([array.ravel() for array in theirs.values()]).astype(np.int64)
    return mapping


def texts(mapping):
    return [(row.left, row.right, row.transform) for row in find_rows(mapping)]


QKV = {"qkv": (192, 64)}
SIMPLEST = {
    "the same": ({"w": (8,)}, lambda a: {"v": a["w"]}, [("w", "v", "")]),
    "a dense layer": (
        {"fc.weight": (10, 6)},
        lambda a: {"fc.kernel": a["fc.weight"].T},
        [("fc.weight", "fc.kernel", "transpose(1, 0)")],
    ),
    "a convolution": (
        {"w": (8, 3, 5, 3)},
        lambda a: {"v": a["w"].transpose(2, 3, 1, 0)},
        [("w", "v", "transpose(2, 3, 1, 0)")],
    ),
    "a convolution of one pixel": (
        {"w": (8, 3, 1, 1)},
        lambda a: {"v": a["w"].transpose(2, 3, 1, 0)},
        [("w", "v", "transpose(2, 3, 1, 0)")],
    ),
    "a transposed convolution": (
        {"w": (8, 4, 3, 3)},
        lambda a: {"v": np.flip(a["w"], (2, 3))},
        [("w", "v", "flip(2, 3)")],
    ),
    "an axis of length one": (
        {"scale": (1, 1, 64)},
        lambda a: {"v": a["scale"][0, 0]},
        [("scale", "v", "reshape(64)")],
    ),
    "heads": (
        {"w": (64, 32)},
        lambda a: {"v": a["w"].reshape(4, 16, 32).transpose(2, 0, 1)},
        [("w", "v", "transpose(1, 0).reshape(32, 4, 16)")],
    ),
    "blocks of a fused projection": (
        QKV,
        lambda a: {"q": a["qkv"][:64].T, "k": a["qkv"][64:128].T, "v": a["qkv"][128:].T},
        [
            ("qkv[0:64]", "q", "transpose(1, 0)"),
            ("qkv[64:128]", "k", "transpose(1, 0)"),
            ("qkv[128:192]", "v", "transpose(1, 0)"),
        ],
    ),
    "parts of every head": (
        QKV,
        lambda a: {"q": a["qkv"].reshape(4, 3, 16, 64)[:, 0].reshape(64, 64)},
        [("qkv.reshape(4, 3, 16, 64)[:, 0]", "q", "reshape(64, 64)")],
    ),
    "separate left arrays, fused on the right": (
        {"q": (64, 8), "k": (64, 8)},
        lambda a: {"qk": np.concatenate([a["q"].T, a["k"].T], 1)},
        [("q", "qk[:, 0:64]", "transpose(1, 0)"), ("k", "qk[:, 64:128]", "transpose(1, 0)")],
    ),
    "separate left arrays, fused in every head": (
        {"q": (6, 8), "k": (6, 8)},
        lambda a: {"qk": np.stack([a[n].T.reshape(8, 2, 3) for n in "qk"], 2).reshape(8, 12)},
        [
            ("q", "qk.reshape(8, 2, 2, 3)[:, :, 0]", "transpose(1, 0).reshape(8, 2, 3)"),
            ("k", "qk.reshape(8, 2, 2, 3)[:, :, 1]", "transpose(1, 0).reshape(8, 2, 3)"),
        ],
    ),
    "layers stacked for a scan": (
        {"h.0": (6, 4), "h.1": (6, 4)},
        lambda a: {"h": np.stack([a["h.0"].T, a["h.1"].T])},
        [("h.0", "h[0]", "transpose(1, 0)"), ("h.1", "h[1]", "transpose(1, 0)")],
    ),
    "a tied table": (
        {"table": (50, 6)},
        lambda a: {"embed": a["table"], "head": a["table"].T},
        [("table", "embed", ""), ("table", "head", "transpose(1, 0)")],
    ),
    "channels last before a dense layer": (
        {"w": (10, 128)},
        lambda a: {"v": a["w"].reshape(10, 8, 4, 4).transpose(0, 2, 3, 1).reshape(10, 128).T},
        [("w", "v", "reshape(10, 8, 16).transpose(2, 1, 0).reshape(128, 10)")],
    ),
    "even and odd features": (
        {"w": (32,)},
        lambda a: {"v": a["w"].reshape(16, 2).T.ravel()},
        [("w", "v", "reshape(16, 2).transpose(1, 0).reshape(32)")],
    ),
    "an order without a rule": (
        {"w": (10, 6)},
        lambda a: {"v": a["w"].take([3, 1, 0, 5, 4, 2], axis=1)},
        [("w", "v", "take([3, 1, 0, 5, 4, 2], axis=1)")],
    ),
    "stretches without a rule": (
        {"w": (60, 6)},
        lambda a: {"v": a["w"].reshape(6, 10, 6)[[3, 1, 0, 5, 4, 2]].reshape(60, 6)},
        [("w", "v", "reshape(6, 10, 6).take([3, 1, 0, 5, 4, 2], axis=0).reshape(60, 6)")],
    ),
    "one value for many": (
        {"slope": (1,)},
        lambda a: {"v": np.repeat(a["slope"], 7)},
        [("slope", "v", "reshape(1).repeat(7, axis=0)")],
    ),
    "a padded table": (
        {"table": (50, 6)},
        lambda a: {"v": np.concatenate([a["table"], np.full((14, 6), -1)])},
        [("table", "v[0:50]", "")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SIMPLEST)
def test_the_simplest_row_is_found_and_gives_the_same_map(case):
    left, made, expected = SIMPLEST[case]
    mapping = mapping_of(left, made)
    assert texts(mapping) == expected
    back = apply_rows(find_rows(mapping), mapping.left.arrays, mapping.right.arrays)
    np.testing.assert_array_equal(back.source, mapping.source)


def test_what_has_no_counterpart_is_named_by_its_block():
    mapping = mapping_of(
        {"qkv": (192, 64), "pool": (4,), "heads": (12, 2)},
        lambda a: {
            "q": a["qkv"][:64],
            "table": np.concatenate([a["qkv"][64:66], np.full((3, 64), -1)]),
            "even": a["heads"].reshape(3, 4, 2)[:, 0],
        },
    )
    assert unmatched(mapping.left, mapping.is_used) == [
        ("qkv[66:192]", (126, 64)),
        ("pool", (4,)),
        ("heads.reshape(3, 4, 2)[:, 1:4]", (3, 3, 2)),
    ]
    assert unmatched(mapping.right, mapping.source >= 0) == [("table[2:5]", (3, 64))]


@st.composite
def mappings(draw):
    """Maps from a few arrays to others, made of them by a few steps."""
    sides = array_shapes(min_dims=0, max_dims=4, max_side=4)
    left = {f"left.{index}": draw(sides) for index in range(draw(st.integers(1, 3)))}
    numbered = Mapping(described(left), ())
    pool = [numbered.left.elements(index) for index in range(len(left))]
    made = {
        f"right.{index}": draw(changed(draw(st.sampled_from(pool)), pool))
        for index in range(draw(st.integers(1, 3)))
    }
    return mapping_of(left, lambda _: made)


@st.composite
def changed(draw, array, pool):
    for change in draw(st.lists(st.sampled_from(CHANGES), max_size=4)):
        array = change(draw, array, pool)
    return array


def _axis(draw, array):
    return draw(st.integers(0, array.ndim - 1))


def _transposed(draw, array, pool):
    return array.transpose(draw(st.permutations(range(array.ndim))))


def _reshaped(draw, array, pool):
    sizes, rest = [], array.size
    while rest > 1:
        sizes.append(draw(st.sampled_from([n for n in range(2, rest + 1) if rest % n == 0])))
        rest //= sizes[-1]
    return array.reshape(sizes)


def _flipped(draw, array, pool):
    return np.flip(array, _axis(draw, array)) if array.ndim else array


def _permuted(draw, array, pool):
    if not array.ndim:
        return array
    axis = _axis(draw, array)
    return array.take(draw(st.permutations(range(array.shape[axis]))), axis)


def _sliced(draw, array, pool):
    if not array.ndim:
        return array
    axis = _axis(draw, array)
    start = draw(st.integers(0, array.shape[axis] - 1))
    stop = draw(st.integers(start + 1, array.shape[axis]))
    return array.take(range(start, stop), axis)


def _joined(draw, array, pool):
    """Beside another array of its shape: itself reversed, or nothing known."""
    if not array.ndim or array.size > 300:
        return array
    other = draw(st.sampled_from([array[::-1], np.full(array.shape, -1)]))
    return np.concatenate([array, other], _axis(draw, array))


def _stacked(draw, array, pool):
    other = draw(st.sampled_from(pool))
    return np.stack([array, other]) if other.shape == array.shape else array


def _shuffled(draw, array, pool):
    order = np.random.default_rng(draw(st.integers(0, 9))).permutation(array.size)
    return array.ravel()[order].reshape(array.shape)


CHANGES = [
    _transposed, _reshaped, _flipped, _permuted, _sliced, _joined, _stacked, _shuffled,
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(mappings())
def test_rows_of_any_map_give_that_map(mapping):
    rows = find_rows(mapping)
    back = apply_rows(rows, mapping.left.arrays, mapping.right.arrays)
    np.testing.assert_array_equal(back.source, mapping.source)


@settings(max_examples=100, deadline=None)
@given(mappings())
def test_blocks_and_transforms_are_read_as_they_are_written_and_can_be_reversed(mapping):
    shapes = {a.name: a.shape for a in (*mapping.left.arrays, *mapping.right.arrays)}
    for row in find_rows(mapping):
        for text in (row.left, row.right):
            assert str(parse_block(text, [*shapes])) == text
            assert str(parse_block(text)) == text
        transform = parse_transform(row.transform)
        assert str(transform) == row.transform
        if "repeat" in row.transform:
            continue
        block = parse_block(row.left)
        array = block.read(np.arange(np.prod(shapes[block.name])).reshape(shapes[block.name]))
        back = transform.inverse(array.shape).apply(transform.apply(array))
        np.testing.assert_array_equal(back, array)


def test_a_name_with_brackets_is_told_from_a_block_by_the_names_that_are_known():
    assert parse_block("layers[0].weight[2:4]", ["layers[0].weight"]).name == "layers[0].weight"
    assert parse_block("a.reshape(2, 2)[1]", ["a", "a.b"]).shape == (2, 2)
    with pytest.raises(NotationError, match=r"layers\[0\].weight is no array, nor name\[…\]"):
        parse_block("layers[0].weight")


ONE = {"fc.weight": (4, 6)}, {"fc.kernel": (6, 4), "other": (24,)}
MISTAKES = {
    ("fc.weigth", "fc.kernel", ""): "fc.weigth: the left model has no such array. Closest names: fc.weight.",
    ("fc.weight", "kernel", ""): "kernel: the right model has no such array. Closest names: fc.kernel.",
    ("fc.weight", "fc.kernel", ""): "fc.weight is [4, 6], fc.kernel is [6, 4]. Set `transform`",
    ("fc.weight", "fc.kernel", "reshape(4, 3, 2)"): "fc.weight becomes [4, 3, 2], fc.kernel is [6, 4]",
    ("fc.weight", "fc.kernel", "reshape(5, 5)"): "it does not fit fc.weight, whose shape is [4, 6]",
    ("fc.weight", "fc.kernel", "transpose(0, 2)"): "it does not fit fc.weight, whose shape is [4, 6]",
    ("fc.weight", "fc.kernel", "flip(2)"): "axis 2 is out of bounds for 2 dimensions",
    ("fc.weight", "fc.kernel", "rotate(1)"): "rotate is none of the steps reshape, transpose, flip,",
    ("fc.weight", "fc.kernel", "__import__('os')"): "is none of the steps",
    ("fc.weight", "fc.kernel", "take([0, 1])"): "([0, 1]) has no axis",
    ("fc.weight[0:9]", "fc.kernel", ""): "fc.weight is [4, 6]: the slice ends at 9, its axis at 4",
    ("fc.weight[4]", "fc.kernel", ""): "fc.weight is [4, 6]: index 4 is out of bounds",
    ("fc.weight[x]", "fc.kernel", ""): "[x] is neither a number, nor a slice, nor a list of numbers",
    ("fc.weight[0, [1, 2]]", "other[0:2]", ""): "has a list beside something other than ':'",
    ("fc.weight[0]", "other.reshape(6, 4)[:, 9]", ""): "other is [24]: index 9 is out of bounds",
    ("fc.weight[0:2]", "other[[0, 0]]", "reshape(12).take([0, 1], axis=0)"): "by the row for fc.weight[0:2]",
}  # fmt: skip


@pytest.mark.parametrize("row", MISTAKES)
def test_a_row_that_does_not_fit_is_refused_with_its_text_and_both_shapes(row):
    with pytest.raises(RowError) as caught:
        apply_rows([Row(*row)], *map(described, ONE))
    assert MISTAKES[row] in str(caught.value)
    assert caught.value.row == 0


def test_an_element_that_two_rows_map_is_refused():
    rows = [Row("a", "c[0:2]"), Row("b", "c[1:3]")]
    with pytest.raises(RowError) as caught:
        apply_rows(rows, described({"a": (2,), "b": (2,)}), described({"c": (3,)}))
    assert str(caught.value) == (
        "row 2: c[1:3]: some of its elements have a left one already, by the row for a. "
        "Leave out one of the two rows."
    )


def test_a_layer_of_every_block_is_one_line_of_the_table():
    bert = [
        Row(
            f"encoder.layer.{n}.{part}.weight",
            f"encoder.layer.{n}.{part}.kernel",
            "transpose(1, 0)",
        )
        for n in (0, 1, 10, 11, *range(2, 10))
        for part in ("query", "key")
    ]
    assert collapse_rows([Row("embed", "embed"), *bert]) == [
        Row("embed", "embed"),
        *(
            Row(
                f"encoder.layer.{{0..11}}.{part}.weight",
                f"encoder.layer.{{0..11}}.{part}.kernel",
                "transpose(1, 0)",
            )
            for part in ("query", "key")
        ),
    ]
    nested = [
        Row(f"layer{stage}.{block}.conv.weight", f"stages_{stage - 1}.conv[{block}]")
        for stage in (1, 2, 3)
        for block in (0, 1)
    ]
    assert collapse_rows(nested) == [
        Row("layer{1..3}.{0..1}.conv.weight", "stages_{0..2}.conv[{0..1}]")
    ]
    assert collapse_rows([Row("a.0", "b.0"), Row("a.2", "b.1"), Row("a.4", "b.2")]) == [
        Row("a.{0..4..2}", "b.{0..2}")
    ]
    apart = [Row("a.0", "b.1"), Row("a.1", "b.0"), Row("a.5", "c")]
    assert collapse_rows(apart) == [Row("a.{0..1}", "b.{1..0..-1}"), Row("a.5", "c")]


def test_a_long_order_is_shortened_in_the_table_alone():
    assert shortened("take([1, 0], axis=1)") == "take([1, 0], axis=1)"
    order = ", ".join(map(str, range(100)))
    assert shortened(f"take([{order}], axis=1)") == (
        "take([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, …], axis=1)"
    )
