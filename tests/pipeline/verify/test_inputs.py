"""Inputs of a check, drawn from their descriptions."""

import numpy as np
import pytest

from pipeline.errors import BadArgument
from pipeline.verify.inputs import Described, Drawn, Spec, parse


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("x=float32[8,3,32,32] NCHW", Spec("x", "float32", (8, 3, 32, 32), layout="NCHW")),
        ("input_ids=int32[2,16] 1..100", Spec("input_ids", "int32", (2, 16), 1, 100)),
        ("mask=mask[2,16]", Spec("mask", "mask", (2, 16))),
        (" flags=bool[4] ", Spec("flags", "bool", (4,))),
    ],
)
def test_a_description_names_type_shape_range_and_layout(text, spec):
    assert parse(text) == spec


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x", "NAME=TYPE[SHAPE]"),
        ("x=float32", "NAME=TYPE[SHAPE]"),
        ("x=float31[2]", "float32"),
        ("x=float32[]", "no elements"),
        ("x=float32[2,0]", "no elements"),
        ("ids=int32[2,16]", "integers need a range. Write ids=int32[2,16] 0..N"),
        ("ids=int32[2,16] 5..5", "the range 5..5 is empty"),
        ("x=float32[2,3] NCHW", "NCHW names 4 axes, the shape has 2"),
    ],
)
def test_a_bad_description_is_refused_with_the_way_out(text, words):
    with pytest.raises(BadArgument) as refused:
        parse(text)
    assert words in str(refused.value)


def test_the_same_seed_draws_the_same_inputs_and_another_seed_others():
    described = Described((parse("x=float32[4,5]"), parse("ids=int32[4,5] 3..9")))
    one, again, other = (described.draw(seed)[0] for seed in (0, 0, 1))
    for name in ("x", "ids"):
        assert np.array_equal(one[name], again[name])
        assert not np.array_equal(one[name], other[name])
    assert one["ids"].min() >= 3
    assert one["ids"].max() <= 8


def test_a_mask_pads_the_end_of_every_row_but_the_first():
    mask = parse("mask=mask[40,10]").draw(0)
    assert mask[0].all()
    assert 0 < mask.mean() < 1
    assert (np.diff(mask, axis=1) <= 0).all()
    assert mask.sum(1).min() >= 5


def test_other_sizes_are_one_sample_and_an_odd_length():
    described = Described((parse("ids=int32[4,8] 1..9"), parse("mask=mask[4,8]")))
    shapes = {
        name: [array.shape for array in variant.draw(0)[0].values()]
        for name, variant in described.variants().items()
    }
    assert shapes == {
        "one sample": [(1, 8), (1, 8)],
        "shorter": [(4, 7), (4, 7)],
        "longer": [(4, 17), (4, 17)],
    }


def test_a_function_may_give_each_side_its_own_inputs():
    pair = Drawn(lambda seed: ({"x": [seed]}, {"y": [seed, seed]}), {}).draw(3)
    assert [list(side) for side in pair] == [["x"], ["y"]]
    both = Drawn(lambda seed: {"x": [seed]}, {}).draw(3)
    assert both[0]["x"].tolist() == both[1]["x"].tolist() == [3]
    with pytest.raises(BadArgument, match="the function returns int"):
        Drawn(lambda seed: seed, {}).draw(0)


def test_integers_cover_their_range_with_its_ends_and_some_twice():
    small, large = (parse(text).draw(0) for text in ("x=int32[3,9] 1..20", "x=int32[2,8] 0..50000"))
    assert set(small.ravel()) == set(range(1, 20))
    assert {0, 49999} <= set(large.ravel())
    assert len(set(large.ravel())) >= 14
    assert any(len(set(parse("x=int32[2,8] 0..20").draw(seed).ravel())) < 16 for seed in range(4))


def test_integers_of_a_small_input_stay_in_their_range():
    for text in (
        "x=int32[1] 3..5",
        "x=int32[1] 0..9",
        "x=int32[2] 0..9",
        "x=int32[3,7] 0..2",
        "x=int32[4] 7..8",
    ):
        spec = parse(text)
        drawn = spec.draw(1)
        assert drawn.shape == spec.shape
        assert ((drawn >= spec.low) & (drawn < spec.high)).all()
