"""Rows of an alignment as the table shows them."""

from pipeline.verify.alignment_table import collapse_rows, shortened
from pipeline.verify.names.rows import Row


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
