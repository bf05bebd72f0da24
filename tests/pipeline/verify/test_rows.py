"""Rows of an alignment: the simplest text for a map of elements, and the same map from the text."""

import numpy as np
import pytest
from maps import described, mapping_of

from pipeline.verify.names.notation import NotationError
from pipeline.verify.names.parsing import parse_block
from pipeline.verify.names.row_search import find_rows, unmatched
from pipeline.verify.names.rows import Row, RowError, apply_rows


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
