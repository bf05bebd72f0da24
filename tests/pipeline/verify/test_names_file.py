"""The file of an alignment: written, edited, given back, refused; and what a run makes of it."""

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from maps import described

from pipeline.errors import UserError
from pipeline.verify.alignment.mapping import Mapping
from pipeline.verify.names.names_file import read_names, write_names
from pipeline.verify.names.pieces import canonical_arrays, check_names, pieces_of
from pipeline.verify.names.rows import Row, apply_rows
from pipeline.verify.trace.graph import Description

LEFT = {"in_proj": (12, 4), "fc.weight": (3, 8), "norm.weight": (4,), "pool": (2,)}
RIGHT = {
    "query": (4, 2, 2),
    "key": (4, 4),
    "value": (4, 4),
    "Dense_0.kernel": (8, 3),
    "scale": (1, 4),
}
ROWS = (
    Row("in_proj[0:4]", "query", "transpose(1, 0).reshape(4, 2, 2)"),
    Row("in_proj[4:8]", "key", "transpose(1, 0)"),
    Row("in_proj[8:12]", "value", "transpose(1, 0)"),
    Row("fc.weight", "Dense_0.kernel", "reshape(3, 4, 2).transpose(2, 1, 0).reshape(8, 3)"),
    Row("norm.weight", "scale", "reshape(1, 4)"),
)


def models(left=LEFT, right=RIGHT):
    layers = {"": "attention", "fc": "linear", "norm": "norm"}
    torch = Description("torch.nn.Module", described(left), layers=layers)
    return torch, Description("flax.linen.Module", described(right))


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "names.yaml"
    rows = write_names(path, apply_rows(ROWS, described(LEFT), described(RIGHT)), *models())
    assert tuple(rows) == ROWS
    return path


def edited(path, *changes):
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return path


def test_a_written_file_gives_the_same_map_and_says_what_is_left_over(written):
    names = read_names(written, "--names")
    assert tuple(names.rows) == ROWS
    found = names.mapping(described(LEFT), described(RIGHT))
    expected = apply_rows(ROWS, described(LEFT), described(RIGHT))
    np.testing.assert_array_equal(found.source, expected.source)
    assert names.left.model == "torch.nn.Module"
    assert names.left.arrays == LEFT
    assert names.right.arrays == RIGHT
    assert names.left.layers["fc"] == "linear"
    text = written.read_text()
    assert "# In the left model alone:\n#   pool [2]\n" in text
    assert "--names FILE" in text
    assert "model.names=FILE" in text
    for number, line in zip(names.lines, ("in_proj[0:4]", "in_proj[4:8]"), strict=False):
        assert text.splitlines()[number - 1] == f"- left: {line}"


def test_a_file_by_hand_may_be_a_list_of_rows(tmp_path):
    path = tmp_path / "names.yaml"
    path.write_text('- {left: a, right: "b[0:2]"}\n- right: b[2]\n  left: c\n  transform: null\n')
    names = read_names(path, "--names")
    assert list(names.rows) == [Row("a", "b[0:2]"), Row("c", "b[2]")]
    mapping = names.mapping(described({"a": (2,), "c": ()}), described({"b": (3,)}))
    assert mapping.source.tolist() == [0, 1, 2]


ODD = st.text(
    st.sampled_from("ab01.-_:#' \"{}&*!|>%@`~?,=/é\\") | st.characters(codec="utf-8"), min_size=1
)
NAMES = st.lists(ODD.filter(lambda name: name == name.strip() and "[" not in name), unique=True)


@settings(max_examples=20)
@given(NAMES, NAMES)
def test_any_names_survive_the_file(tmp_path_factory, left, right):
    count = min(len(left), len(right))
    ours, theirs = (described(dict.fromkeys(names[:count], (2,))) for names in (left, right))
    path = tmp_path_factory.mktemp("names") / "names.yaml"
    mapping = Mapping(ours, theirs)
    mapping.source[:] = np.arange(2 * count)
    write_names(path, mapping, Description("a", ours), Description("b", theirs))
    found = read_names(path, "--names").mapping(ours, theirs)
    assert found.source.tolist() == mapping.source.tolist()
    content = yaml.safe_load(path.read_text())
    assert [*(content["left"]["arrays"] or {})] == left[:count]


MISTAKES = {
    ("left: norm.weight", "left: norm.wieght"): (
        "--names={file}, line {line}: norm.wieght: the left model has no such array. "
        "Closest names: norm.weight, fc.weight."
    ),
    ("transform: reshape(1, 4)", "transform: ''"): (
        "--names={file}, line {line}: norm.weight: norm.weight is [4], scale is [1, 4]. "
        "Set `transform` to the steps from the left block to the right one."
    ),
    ("right: scale", "right: key"): (
        "--names={file}, line {line}: reshape(1, 4): norm.weight becomes [1, 4], key is [4, 4]."
    ),
    ("right: value", "right: key"): (
        "line {line}: key: some of its elements have a left one already, by the row for in_proj[4:8]. "
        "Leave out one of the two rows."
    ),
    ("  right: scale\n", ""): "line {line}: this row has no `right`. A row has `left`, `right`, `transform`.",
    ("  right: scale", "  write: scale"): "`write` is unknown. Known here: `left`, `right`, `transform`.",
    ("  right: scale", "  right: scale\n  right: key"): "`right` is here twice. Leave out one of them.",
    ("right: scale", "right: [scale]"): "this must be text. Put it in quotes if it has brackets.",
    ("rows:", "pairs:"): "`pairs` is unknown. Known here: `rows`, `left`, `right`.",
    ("- left: norm.weight", "- left: 'norm.weight"): "this is no YAML: ",
    ("pool: [2]", "pool: [two]"): "this is no shape. Write it as in [64, 3, 3, 3].",
}  # fmt: skip


@pytest.mark.parametrize("change", MISTAKES)
def test_a_mistake_is_told_with_its_line_and_the_way_out(written, change):
    before = written.read_text()
    edited(written, change)
    with pytest.raises(UserError) as caught:
        read_names(written, "--names").mapping(described(LEFT), described(RIGHT))
    lines = before[: before.index(change[0]) + 1].splitlines()
    line = max((n for n, text in enumerate(lines, 1) if text.startswith("-")), default=None)
    assert MISTAKES[change].format(file=written, line=line) in str(caught.value)
    assert str(written) in str(caught.value)


def test_a_file_that_is_missing_or_empty_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"it cannot be read: No such file or directory. Write one"):
        read_names(tmp_path / "names.yaml", "model.names")
    with pytest.raises(UserError, match=r"model.names=atuo: it cannot be .* Did you mean auto\?"):
        read_names("atuo", "model.names")
    (tmp_path / "names.yaml").write_text("")
    with pytest.raises(UserError, match=r"this must be a mapping. It has the keys `rows`, `left`"):
        read_names(tmp_path / "names.yaml", "model.names")
    (tmp_path / "names.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="it cannot be read: it is no text"):
        read_names(tmp_path / "names.yaml", "model.names")


def canonical_of(pieces, own):
    """The canonical arrays that pieces make of a model's own."""
    arrays = {}
    for name, group in pieces.items():
        for piece in group:
            target = arrays.setdefault(piece.name, np.full(piece.shape, np.nan))
            piece.block.write(target, piece.canonical(own[name]))
    return arrays


@pytest.mark.parametrize("turned", [False, True], ids=["torch left", "torch right"])
def test_pieces_make_canonical_arrays_of_a_models_own_and_back(tmp_path, turned):
    mapping = apply_rows(ROWS, described(LEFT), described(RIGHT))
    rng = np.random.default_rng(0)
    canonical = {name: rng.normal(size=shape) for name, shape in LEFT.items()}
    own = mapping.to_right(canonical, {name: np.zeros(shape) for name, shape in RIGHT.items()})
    path = tmp_path / "names.yaml"
    if turned:
        rows = [
            Row(row.right, row.left, text)
            for row, text in zip(
                ROWS,
                ["reshape(4, 4).transpose(1, 0)", "transpose(1, 0)", "transpose(1, 0)",
                 "reshape(2, 4, 3).transpose(2, 1, 0).reshape(3, 8)", "reshape(4)"],
                strict=True,
            )
        ]  # fmt: skip
        back = apply_rows(rows, described(RIGHT), described(LEFT))
        write_names(path, back, *models()[::-1])
    else:
        write_names(path, mapping, *models())
    names = read_names(path, "model.names")
    check_names(names, LEFT)
    pieces = pieces_of(names, RIGHT)
    assert pieces["Dense_0.kernel"][0].kind == "linear"
    found = canonical_of(pieces, own)
    assert found.keys() == LEFT.keys() - {"pool"}
    # Weights with the names of either side become those of the torch model.
    for weights in (own, canonical):
        translated = canonical_arrays(names, weights | {"more": np.ones(2)})
        assert translated.keys() == found.keys() | {"more"} | weights.keys() & {"pool"}
        np.testing.assert_array_equal(translated["in_proj"], canonical["in_proj"])
    for name, array in found.items():
        np.testing.assert_array_equal(array, canonical[name])
    for name, group in pieces.items():
        for piece in group:
            np.testing.assert_array_equal(
                piece.native(canonical[piece.name]), piece.own.read(own[name])
            )


def test_shapes_that_a_file_by_hand_does_not_tell_follow_from_its_rows(tmp_path):
    path = tmp_path / "names.yaml"
    path.write_text("- left: w\n  right: k\n  transform: transpose(2, 3, 1, 0)\n")
    pieces = pieces_of(read_names(path, "model.names"), {"k": (3, 3, 4, 8), "other": (2,)})
    assert {name: [piece.shape for piece in group] for name, group in pieces.items()} == {
        "k": [(8, 4, 3, 3)]
    }
    path.write_text("- left: w[0:2]\n  right: k\n")
    with pytest.raises(
        UserError, match=r"line 1: w: the file does not say its whole shape. Add `w: "
    ):
        pieces_of(read_names(path, "model.names"), {"k": (2,)})


PARTS = {
    "tied": (
        [Row("table", "embed"), Row("table", "head", "transpose(1, 0)")],
        "line 4: table: some of its elements are in row 1, too. Leave out one of the two rows. Arrays "
        "that are tied in one model must be tied in the other.",
    ),
    "in part": (
        [Row("table[0:2]", "embed[0:2]"), Row("other", "head", "transpose(1, 0)")],
        "line 2: embed: its rows name 8 of its 20 elements. Add a row for the others.",
    ),
    "repeated": (
        [Row("slope", "embed", "reshape(1, 1).repeat(5, axis=0).repeat(4, axis=1)")],
        "repeats entries, so it has no reverse",
    ),
    "misfit": (
        [Row("table", "head", "reshape(5, 4)")],
        "line 2: reshape(5, 4): the left one becomes [5, 4], the right one is [4, 5].",
    ),
    "unknown": ([Row("table", "embedd")], "embedd: the right model has no such array. Closest names: embed"),
}  # fmt: skip


@pytest.mark.parametrize("case", PARTS)
def test_names_that_a_run_cannot_use_are_refused(tmp_path, case):
    rows, message = PARTS[case]
    path = tmp_path / "names.yaml"
    lines = [f"- left: {row.left}\n  right: {row.right}" for row in rows]
    lines = [
        line + f"\n  transform: {row.transform}" * bool(row.transform)
        for line, row in zip(lines, rows, strict=True)
    ]
    about = "left: {arrays: {table: [5, 4], other: [5, 4], slope: [1]}}"
    path.write_text("\n".join(["rows:", *lines, about]))
    with pytest.raises(UserError) as caught:
        pieces_of(read_names(path, "model.names"), {"embed": (5, 4), "head": (4, 5)})
    assert message in str(caught.value)


def test_a_torch_model_that_lacks_a_name_of_the_file_is_refused(written):
    names = read_names(written, "model.names")
    check_names(names, LEFT)
    other = LEFT | {"fc.weights": LEFT["fc.weight"]}
    del other["fc.weight"]
    with pytest.raises(
        UserError, match=r"fc.weight: the left model has no such array. Closest names: fc"
    ):
        check_names(names, other)
    with pytest.raises(UserError, match=r"it is \[5, 8\] in this model, \[3, 8\] in the file"):
        check_names(names, LEFT | {"fc.weight": (5, 8)})
